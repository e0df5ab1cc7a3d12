#!/usr/bin/env python3
"""Write the figures of PyTorch that nets/tests/training compares with.

How to run (from the root of the repository, with the packages of nets/train/requirements.txt):

    venv/bin/python nets/train/reference.py

It writes four files to nets/tests/training. Weights and gradients are fractions of powers of two, so both sides start
from the same numbers; the tests compute them by the same formulas.

    optimizers.csv     eight weights after some of 50 steps, for each optimiser and penalty
    lbfgs.csv          six weights after each step of L-BFGS on a convex function
    schedules.csv      the learning rate of each epoch, or each quarter of an epoch
    initialisers.csv   mean, deviation, least and largest of the weights of a 3x3 convolution, 128 to 256 channels
"""
import csv
import math
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parent.parent / "tests" / "training"
STEPS = (1, 2, 3, 10, 50)


def write(name, header, rows):
    with open(OUT / name, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


# ---------------------------------------------------------------- optimisers

def start():
    return torch.tensor([(i - 3) / 8 for i in range(8)], dtype=torch.float32)


def gradient(step):
    return torch.tensor([((7 * i + 13 * step) % 11 - 5) / 4 for i in range(8)], dtype=torch.float32)


def run(make, l1=0.0, l2=0.0):
    """Weights after each step. The loss is linear, so that its gradient is the given one, plus the penalty."""
    weights = start().requires_grad_()
    optimizer = make([weights])
    for step in range(max(STEPS)):
        optimizer.zero_grad()
        loss = (gradient(step) * weights).sum() + l1 * weights.abs().sum() + l2 / 2 * (weights * weights).sum()
        loss.backward()
        optimizer.step()
        yield step + 1, weights.detach()


def uncorrected(rate, b1, b2, epsilon):
    """Adam without bias correction, in double precision: PyTorch has only the corrected one."""
    weights, mean, square = start().double(), torch.zeros(8).double(), torch.zeros(8).double()
    for step in range(max(STEPS)):
        g = gradient(step).double()
        mean = b1 * mean + (1 - b1) * g
        square = b2 * square + (1 - b2) * g * g
        weights = weights - rate * mean / (square.sqrt() + epsilon)
        yield step + 1, weights


def optimizers():
    o = torch.optim
    runs = {
        "sgd": run(lambda w: o.SGD(w, lr=0.05)),
        "sgd+l2": run(lambda w: o.SGD(w, lr=0.05, weight_decay=0.25)),
        "sgd+l1": run(lambda w: o.SGD(w, lr=0.05), l1=0.125),
        "sgd+elastic": run(lambda w: o.SGD(w, lr=0.05), l1=0.125, l2=0.25),
        "momentum": run(lambda w: o.SGD(w, lr=0.05, momentum=0.9)),
        "momentum+l2": run(lambda w: o.SGD(w, lr=0.05, momentum=0.9, weight_decay=0.25)),
        "nesterov": run(lambda w: o.SGD(w, lr=0.05, momentum=0.9, nesterov=True)),
        "adagrad": run(lambda w: o.Adagrad(w, lr=0.05)),
        "rmsprop": run(lambda w: o.RMSprop(w, lr=0.05)),
        "adam": run(lambda w: o.Adam(w, lr=0.05)),
        "adam+l2": run(lambda w: o.Adam(w, lr=0.05, weight_decay=0.25)),
        "adam-uncorrected": uncorrected(0.05, 0.9, 0.999, 1e-8),
        "adamw": run(lambda w: o.AdamW(w, lr=0.05, weight_decay=0.25)),
    }
    for name, steps in runs.items():
        for step, weights in steps:
            if step in STEPS:
                yield [name, step, *(repr(x) for x in weights.tolist())]


def lbfgs():
    """f(w) = sum (i + 1) / 2 (w_i - 1)^2 + w_i^4 / 10, from w_i = (i - 3) / 8."""
    weights = start()[:6].clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], lr=1, max_iter=1, history_size=4)
    scale = torch.arange(1, 7)

    def closure():
        optimizer.zero_grad()
        loss = (scale / 2 * (weights - 1) ** 2 + weights ** 4 / 10).sum()
        loss.backward()
        return loss

    last = math.inf
    for step in range(1, 9):
        loss = optimizer.step(closure).item()
        # The tests compare steps of full length.
        assert loss <= last, (step, loss, last)
        last = loss
        yield [step, *(repr(x) for x in weights.detach().tolist())]
    assert closure().item() <= last


# ---------------------------------------------------------------- schedules

EPOCHS = 30


def schedules():
    s = torch.optim.lr_scheduler

    def epochs(name, make):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        scheduler = make(optimizer)
        for epoch in range(EPOCHS):
            yield [name, epoch, repr(optimizer.param_groups[0]["lr"])]
            optimizer.step()
            scheduler.step()

    yield from epochs("step:7,0.5", lambda o: s.StepLR(o, 7, 0.5))
    yield from epochs("exponential:0.1", lambda o: s.ExponentialLR(o, math.exp(-0.1)))
    yield from epochs("inverse:0.3", lambda o: s.LambdaLR(o, lambda t: 1 / (1 + 0.3 * t)))
    yield from epochs("cosine", lambda o: s.CosineAnnealingLR(o, EPOCHS))
    # Five epochs of warm-up: the first epoch has a fifth of the rate, the fifth all of it.
    yield from epochs("warm-up 5", lambda o: s.LinearLR(o, start_factor=1 / 5, total_iters=4))

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = s.CosineAnnealingWarmRestarts(optimizer, T_0=5, T_mult=2, eta_min=0.5 * 0.0625)
    for quarter in range(4 * EPOCHS):
        optimizer.step()
        scheduler.step(quarter / 4)
        yield ["cosine:5,2,0.0625", quarter / 4, repr(optimizer.param_groups[0]["lr"])]

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = s.ReduceLROnPlateau(optimizer, factor=0.3, patience=2)
    for epoch in range(EPOCHS):
        yield ["plateau:0.3,2", epoch, repr(optimizer.param_groups[0]["lr"])]
        # Falls to 1/8, stays there, and falls once more.
        scheduler.step(max(1 / (1 + epoch), 0.125) if epoch < 18 else 0.1)


# ---------------------------------------------------------------- initialisers

def initialisers():
    i = torch.nn.init
    fills = {
        "he": lambda w: i.kaiming_uniform_(w, nonlinearity="relu"),
        "he-normal": lambda w: i.kaiming_normal_(w, nonlinearity="relu"),
        "xavier": i.xavier_uniform_,
        "xavier-normal": i.xavier_normal_,
        "normal-0.01": lambda w: i.normal_(w, std=0.01),
        "normal-1": i.normal_,
        "zero": i.zeros_,
    }
    torch.manual_seed(1)
    for name, fill in fills.items():
        weights = fill(torch.empty(256, 128, 3, 3)).double()
        yield [name, *(repr(x.item()) for x in (weights.mean(), weights.std(), weights.min(), weights.max()))]


def main():
    write("optimizers.csv", ["run", "step", *(f"w{i}" for i in range(8))], optimizers())
    write("lbfgs.csv", ["step", *(f"w{i}" for i in range(6))], lbfgs())
    write("schedules.csv", ["schedule", "epoch", "rate"], schedules())
    write("initialisers.csv", ["init", "mean", "deviation", "least", "largest"], initialisers())


if __name__ == "__main__":
    main()
