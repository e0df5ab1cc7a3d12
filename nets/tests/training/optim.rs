//! Optimisers, schedules and initialisers against PyTorch's figures. `nets/train/reference.py` wrote the tables.

use crate::{number, table};
use nets::optim::{Lbfgs, LearningRate, Optimizer, Penalty, Rule, Schedule};
use nets::{Conv, GraphBuilder, Init, Shape, WeightSet};
use std::collections::{HashMap, HashSet};

const OPTIMIZERS: &str = include_str!("optimizers.csv");
const LBFGS: &str = include_str!("lbfgs.csv");
const SCHEDULES: &str = include_str!("schedules.csv");
const INITIALISERS: &str = include_str!("initialisers.csv");

const RATE: f64 = 0.05;

fn start() -> Vec<f32> {
    (0..8).map(|index| (index as f32 - 3.0) / 8.0).collect()
}

fn gradient(step: usize) -> Vec<f32> {
    (0..8).map(|index| (((7 * index + 13 * step) % 11) as f32 - 5.0) / 4.0).collect()
}

/// The rule and penalty of a run of the table.
fn run_of(name: &str) -> (Rule, Penalty) {
    let (rule, penalty) = name.split_once('+').unwrap_or((name, ""));
    let penalty = match penalty {
        "" => Penalty::default(),
        "l1" => Penalty { l1: 0.125, l2: 0.0 },
        "l2" => Penalty { l1: 0.0, l2: 0.25 },
        "elastic" => Penalty { l1: 0.125, l2: 0.25 },
        other => panic!("the penalty {other}"),
    };
    let rule = if rule == "adamw" { "adamw:0.25" } else { rule };
    (rule.parse().unwrap(), penalty)
}

fn step(optimizer: &mut Optimizer, weights: &mut [f32], gradient: &[f32]) {
    optimizer.begin();
    optimizer.step(0, RATE, weights, gradient, true);
}

#[test]
fn optimisers_agree_with_pytorch() {
    let rows = table(OPTIMIZERS);
    let names: HashSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names.len(), 13, "{names:?}");
    for name in names {
        let (rule, penalty) = run_of(name);
        let mut optimizer = Optimizer::new(rule, penalty, [("w", 8)]);
        let mut weights = start();
        let expected: HashMap<usize, &Vec<&str>> =
            rows.iter().filter(|row| row[0] == name).map(|row| (row[1].parse().unwrap(), row)).collect();
        assert!(expected.contains_key(&50), "{name}");
        for index in 0..50 {
            step(&mut optimizer, &mut weights, &gradient(index));
            let Some(row) = expected.get(&(index + 1)) else { continue };
            // Each step rounds a few times, relative to numbers of about 1.
            let tolerance = 8.0 * (index + 1) as f64 * f64::from(f32::EPSILON);
            for (&got, expected) in weights.iter().zip(&row[2..]) {
                let expected = number(expected);
                let error = (f64::from(got) - expected).abs();
                assert!(
                    error <= tolerance * expected.abs().max(1.0),
                    "{name} step {}: {got} {expected}",
                    index + 1
                );
            }
        }
    }
}

/// The gradient of half a sum of squares with different curvatures.
fn valley(weights: &[f32]) -> Vec<f32> {
    weights.iter().zip(1..).map(|(&weight, curvature)| weight * curvature as f32).collect()
}

#[test]
fn both_forms_of_nesterov_agree() {
    let mut optimizers = ["nesterov:0.8", "look-ahead:0.8"]
        .map(|rule| Optimizer::new(rule.parse().unwrap(), Penalty::default(), [("w", 8)]));
    let mut weights = [start(), start()];
    for index in 0..60 {
        for (optimizer, weights) in optimizers.iter_mut().zip(&mut weights) {
            let gradient = valley(weights);
            step(optimizer, weights, &gradient);
        }
        let [a, b] = &weights;
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-5, "step {index}: {a} {b}");
        }
    }
    // And momentum alone visits other points.
    let mut momentum = Optimizer::new("momentum:0.8".parse().unwrap(), Penalty::default(), [("w", 8)]);
    let mut other = start();
    for _ in 0..5 {
        let gradient = valley(&other);
        step(&mut momentum, &mut other, &gradient);
    }
    let mut nesterov = Optimizer::new("nesterov:0.8".parse().unwrap(), Penalty::default(), [("w", 8)]);
    let mut weights = start();
    for _ in 0..5 {
        let gradient = valley(&weights);
        step(&mut nesterov, &mut weights, &gradient);
    }
    assert!((weights[7] - other[7]).abs() > 1e-3, "{} {}", weights[7], other[7]);
}

#[test]
fn a_saved_state_continues_to_the_same_bits() {
    for rule in ["sgd", "momentum", "look-ahead", "adagrad", "rmsprop", "adam", "adamw"] {
        let rule: Rule = rule.parse().unwrap();
        let penalty = Penalty { l1: 1e-3, l2: 1e-2 };
        let mut whole = Optimizer::new(rule, penalty, [("w", 8)]);
        let mut weights = start();
        (0..7).for_each(|index| step(&mut whole, &mut weights, &gradient(index)));
        let state: HashMap<String, Vec<f32>> =
            whole.state().map(|(name, data)| (name, data.to_vec())).collect();
        let mut resumed = Optimizer::new(rule, penalty, [("w", 8)]);
        resumed.restore(whole.steps(), &state).unwrap();
        let mut other = weights.clone();
        for index in 7..20 {
            step(&mut whole, &mut weights, &gradient(index));
            step(&mut resumed, &mut other, &gradient(index));
        }
        assert_eq!(weights, other, "{rule}");
    }
    let mut adam = Optimizer::new(Rule::adam(), Penalty::default(), [("w", 8)]);
    let error = adam.restore(1, &HashMap::from([("w/mean".to_owned(), vec![0.0; 8])])).unwrap_err();
    let expected = "state of the optimiser: tensor `w/squares`: expected 8 elements, got no such tensor";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn penalties_leave_biases_alone() {
    let mut optimizer = Optimizer::new(Rule::adamw(0.5), Penalty { l1: 1.0, l2: 1.0 }, [("w", 1), ("b", 1)]);
    let (mut weight, mut bias) = ([2.0], [2.0]);
    optimizer.begin();
    optimizer.step(0, 0.1, &mut weight, &[0.0], true);
    optimizer.step(1, 0.1, &mut bias, &[0.0], false);
    assert_eq!(bias, [2.0]);
    assert!(weight[0] < 1.91, "{weight:?}");
    let penalty = Penalty { l1: 0.5, l2: 2.0 };
    assert_eq!(penalty.cost(&[3.0, -1.0]), 0.5 * 4.0 + 10.0);
    // L1 drives weights to zero and does not push them further.
    let mut gradient = [0.0; 3];
    penalty.add_gradient(&mut gradient, &[1.0, -1.0, 0.0]);
    assert_eq!(gradient, [2.5, -2.5, 0.0]);
}

#[test]
fn rules_are_read_back() {
    for text in [
        "sgd",
        "momentum:0.5",
        "nesterov:0.9",
        "look-ahead:0.9",
        "rmsprop:0.9,1e-7",
        "adamw:0.1,0.9,0.99,1e-8",
    ] {
        let rule: Rule = text.parse().unwrap();
        assert_eq!(rule.to_string().parse(), Ok(rule), "{text}");
    }
    for text in ["", "sgd:1", "momentum:1", "momentum:x", "adam:0.9,0.9,0.1,0.1", "nadam"] {
        assert!(text.parse::<Rule>().unwrap_err().contains("expected"), "{text}");
    }
}

#[test]
fn lbfgs_agrees_with_pytorch() {
    let mut optimizer = Lbfgs::new(1.0, 4);
    let mut weights = start()[..6].to_vec();
    let mut evaluate = |weights: &[f32], gradient: &mut [f32]| -> Result<f64, ()> {
        let mut loss = 0.0;
        for ((index, &weight), gradient) in weights.iter().enumerate().zip(gradient) {
            let (scale, weight) = ((index + 1) as f64, f64::from(weight));
            loss += scale / 2.0 * (weight - 1.0).powi(2) + weight.powi(4) / 10.0;
            *gradient = (scale * (weight - 1.0) + 0.4 * weight.powi(3)) as f32;
        }
        Ok(loss)
    };
    let rows = table(LBFGS);
    assert_eq!(rows.len(), 8);
    for row in rows {
        optimizer.step(&mut weights, &mut evaluate).unwrap();
        for (&got, expected) in weights.iter().zip(&row[1..]) {
            // Differences of gradients lose digits, which later steps amplify.
            assert!((f64::from(got) - number(expected)).abs() < 1e-4, "step {}: {got} {expected}", row[0]);
        }
    }
}

#[test]
fn lbfgs_needs_fewer_steps_than_gradient_descent() {
    let evaluate = |weights: &[f32], gradient: &mut [f32]| -> Result<f64, ()> {
        // Rosenbrock's valley.
        let (x, y) = (f64::from(weights[0]), f64::from(weights[1]));
        gradient[0] = (-2.0 * (1.0 - x) - 400.0 * x * (y - x * x)) as f32;
        gradient[1] = (200.0 * (y - x * x)) as f32;
        Ok((1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2))
    };
    let mut optimizer = Lbfgs::new(1.0, 10);
    let mut weights = [-1.2, 1.0];
    let mut losses = Vec::new();
    for _ in 0..80 {
        losses.push(optimizer.step(&mut weights, evaluate).unwrap());
    }
    assert!(losses.windows(2).all(|pair| pair[1] <= pair[0]), "{losses:?}");
    assert!((weights[0] - 1.0).abs() < 1e-2, "{weights:?} {losses:?}");
}

#[test]
fn schedules_agree_with_pytorch() {
    let rows = table(SCHEDULES);
    let names: HashSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    // The fields of a schedule are separated by commas, as those of the table.
    let mut rates: HashMap<String, LearningRate> = HashMap::new();
    for line in SCHEDULES.lines().skip(1) {
        let mut fields: Vec<&str> = line.trim_start_matches('"').rsplitn(3, ',').collect();
        fields.reverse();
        let [name, epoch, expected] = fields[..] else { panic!("{line}") };
        let name = name.trim_end_matches('"');
        let (epoch, expected) = (number(epoch), number(expected));
        let rate = rates.entry(name.to_owned()).or_insert_with(|| match name.strip_prefix("warm-up ") {
            Some(epochs) => LearningRate::new(0.5, Schedule::Constant, 30.0).warm_up(number(epochs)),
            None => LearningRate::new(0.5, name.parse().unwrap(), 30.0),
        });
        // Quarters of epochs are steps of four per epoch.
        let got = match epoch.fract() == 0.0 {
            true => rate.at(epoch as u64, 1),
            false => rate.at((4.0 * epoch) as u64, 4),
        };
        assert!((got - expected).abs() < 1e-9, "{name} {epoch}: {got} {expected}");
        rate.end_epoch(if epoch < 18.0 { f64::max(1.0 / (1.0 + epoch), 0.125) } else { 0.1 });
    }
}

#[test]
fn initialisers_agree_with_pytorch() {
    let mut builder = GraphBuilder::new("one", Shape::map(128, 8, 8));
    builder.then("conv", Conv::new(256, 3));
    let graph = builder.build().unwrap();
    let rows = table(INITIALISERS);
    assert_eq!(rows.len(), Init::ALL.len());
    for row in rows {
        let init: Init = row[0].parse().unwrap();
        let weights = WeightSet::seeded(&graph, init, 3).unwrap();
        let data: Vec<f64> =
            weights.get("conv.weight").unwrap().data().iter().map(|&weight| weight.into()).collect();
        let count = data.len() as f64;
        let mean = data.iter().sum::<f64>() / count;
        let deviation = (data.iter().map(|weight| (weight - mean).powi(2)).sum::<f64>() / count).sqrt();
        let [their_mean, their_deviation, least, largest] = [1, 2, 3, 4].map(|column| number(row[column]));
        // The deviation of a mean and of a deviation of so many numbers, five times, on both sides.
        let error = 10.0 * their_deviation / count.sqrt();
        assert!(
            (mean - their_mean).abs() <= error && (deviation - their_deviation).abs() <= error,
            "{row:?}: {mean} {deviation}"
        );
        let extremes = data.iter().fold((0.0f64, 0.0f64), |(low, high), &x| (low.min(x), high.max(x)));
        let is_uniform = ["he", "xavier"].contains(&row[0]);
        // Both fill the same range; the tails of normal distributions differ.
        let reach = if is_uniform { 1e-3 } else { 0.3 };
        let close = |got: f64, expected: f64| (got - expected).abs() <= reach * expected.abs();
        assert!(close(extremes.0, least) && close(extremes.1, largest), "{row:?}: {extremes:?}");
        assert_eq!(init.name(), row[0]);
    }
}

#[test]
fn normal_weights_can_be_read_from_any_element() {
    use nets::{Param, Role, SeededWeights, WeightSource};
    let mut builder = GraphBuilder::new("one", Shape::map(3, 8, 8));
    builder.then("conv", Conv::new(5, 3));
    let graph = builder.build().unwrap();
    let weights = SeededWeights::new(&graph, Init::HeNormal, 9).unwrap();
    let (name, param): (String, Param) = graph.params().next().unwrap();
    assert!(matches!(param.role, Role::Weight { .. }));
    let whole = weights.tensor(&name, &param).unwrap().unwrap();
    let mut part = vec![0.0; 40];
    assert!(weights.part(&name, &param, 17, &mut part).unwrap());
    assert_eq!(part, whole[17..57]);
}
