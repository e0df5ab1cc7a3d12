//! Everything around the gradients: optimisers, schedules and initialisers against PyTorch's figures, data sets and their
//! faults, and the loop of a training with its checkpoints.

mod data;
mod fit;
mod forms;
mod optim;

/// The rows of a table of figures, without its header.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().skip(1).map(|line| line.split(',').collect()).collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("a number: {text}"))
}
