#!/usr/bin/env python3
"""Write the figures of PyTorch that nets/tests/training compares with.

How to run (from the root of the repository, with the packages of nets/train/requirements.txt):

    venv/bin/python nets/train/reference.py

It writes six files to nets/tests/training. Weights and gradients are fractions of powers of two, so both sides start
from the same numbers; the tests compute them by the same formulas.

    optimizers.csv     eight weights after some of 50 steps, for each optimiser and penalty
    lbfgs.csv          six weights after each step of L-BFGS on a convex function
    schedules.csv      the learning rate of each epoch, or each quarter of an epoch
    fractional.csv     outputs of fractional max-pooling for given random numbers
    forms.csv          weights and gains under weight normalisation and weight standardisation, after some of 50 steps
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


# ---------------------------------------------------------------- fractional max-pooling

def fractional():
    """Two maps of numbers that look random. The samples are fractions of 64, so that they are the same in both libraries."""
    for case, (h, w, window, oh, ow) in enumerate([(28, 28, 2, 16, 16), (12, 12, 2, 7, 7), (9, 11, 3, 4, 5), (7, 6, 2, 1, 4)]):
        x = torch.tensor([(i * i * 31 + 17 * i + case) % 509 / 512 for i in range(2 * h * w)]).view(1, 2, h, w)
        samples = torch.tensor([(7 + 11 * i + 5 * case) % 64 / 64 for i in range(4)]).view(1, 2, 2)
        y = torch.nn.FractionalMaxPool2d(window, output_size=(oh, ow), _random_samples=samples)(x)
        text = lambda t: " ".join(repr(number) for number in t.flatten().tolist())
        yield [h, w, window, oh, ow, text(samples), text(y)]


# ---------------------------------------------------------------- forms of weights

class Standardised(torch.nn.Module):
    def forward(self, v):
        rows = v.flatten(1)
        variance, mean = torch.var_mean(rows, dim=1, correction=0, keepdim=True)
        return ((rows - mean) / torch.sqrt(variance + 1e-5)).view_as(v)


def forms():
    """A 1x1 convolution of one image of one pixel, whose loss is a cross-entropy. Steps of gradient descent at a rate of 1/4."""
    parametrize = torch.nn.utils.parametrize
    for kind in ("weight-norm", "weight-standard"):
        layer = torch.nn.Conv2d(4, 3, 1, bias=False)
        layer.weight.data = torch.tensor([((5 * i) % 13 - 6) / 8 for i in range(12)]).view(3, 4, 1, 1)
        if kind == "weight-norm":
            torch.nn.utils.parametrizations.weight_norm(layer)
        else:
            parametrize.register_parametrization(layer, "weight", Standardised())
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.25)
        x = torch.tensor([0.5, -1.0, 0.25, 0.75]).view(1, 4, 1, 1)
        for step in range(max(STEPS)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(x).flatten(1), torch.tensor([1])).backward()
            optimizer.step()
            if step + 1 in STEPS:
                yield [kind, step + 1, *(repr(number) for number in layer.weight.detach().flatten().tolist())]


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
    write("fractional.csv", ["h", "w", "window", "rows", "columns", "samples", "outputs"], fractional())
    write("forms.csv", ["form", "step", *(f"w{i}" for i in range(12))], forms())
    write("initialisers.csv", ["init", "mean", "deviation", "least", "largest"], initialisers())


if __name__ == "__main__":
    main()
