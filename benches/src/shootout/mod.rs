//! The program `shootout`: all layers, algorithms, instruction sets, layouts and numbers of threads, one table.

mod args;
mod contest;
mod engines;
mod plot;
mod ratios;
mod report;
mod row;
mod worker;

use crate::layers::{self, LayerSpec};
use crate::peak::{self, Bandwidth};
use crate::pin::Crew;
use crate::turns::{least, median};
use anyhow::Context;
pub use args::{Args, Candidate, Format, Precision};
use contest::{Arena, Roof};
pub use engines::Engine;
use indicatif::{ProgressBar, ProgressStyle};
use kernels::Isa;
use report::Report;
pub use row::Row;
use std::fs::File;
use std::io::Write;
use worker::Worker;

/// A best round so many times as fast as the middle one is not the clock's doing.
const BUSY: f64 = 1.15;

/// What the program prints, and whether all is well.
pub struct Outcome {
    /// For standard output.
    pub text: String,
    /// How many outputs of the library were wrong.
    pub wrong: usize,
}

/// Roofs of one instruction set and number of threads, for the plot.
struct Roofs {
    isa: Isa,
    threads: usize,
    gflops: f64,
    /// How many times as fast the best round was: little more than 1 on a quiet machine.
    best: f64,
    bandwidths: [Bandwidth; 3],
}

/// Does what the arguments say. Progress and roofs go to standard error.
///
/// # Errors
/// Names of nothing, instruction sets that this machine does not have, peers that are not installed.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let layers = layers::select(&args.filter).map_err(anyhow::Error::msg)?;
    let isas = args.isas()?;
    let engines =
        args.peers.as_deref().map(|folder| engines::installed(folder, &args.engines)).transpose()?;
    let engines = engines.unwrap_or_default();
    // Now, not after an hour.
    let plot_file = args
        .plot
        .as_ref()
        .map(|file| File::create(file).with_context(|| format!("cannot write {}", file.display())));
    let plot_file = plot_file.transpose()?;
    let (mut rows, mut roofs, mut machine) = (Vec::new(), Vec::new(), vec![machine_line()]);
    let progress = progress(layers.len() * args.thread_counts().len());
    for threads in args.thread_counts() {
        let crew = Crew::new(threads)?;
        let bandwidths = crew.enter(|| peak::bandwidths(&crew));
        let mut arena = Arena {
            args,
            crew: &crew,
            isas: &isas,
            workers: workers(args, &engines, &isas, threads),
            roofs: isas.iter().filter_map(|&isa| Roof::new(isa)).collect(),
        };
        rows.extend(of_layers(&layers, &mut arena, &progress)?);
        let of_crew = sustained(&arena, bandwidths);
        machine.extend(lines(&of_crew, &crew));
        roofs.extend(of_crew);
    }
    progress.finish_and_clear();
    machine.push(memory_line(args));
    if matches!(args.format, Format::Json | Format::Csv) {
        machine.iter().for_each(|line| eprintln!("{line}"));
    }
    if let Some(mut file) = plot_file {
        file.write_all(plot::svg(&rows, &roofs)?.as_bytes()).context("cannot write the plot")?;
    }
    let wrong = rows.iter().filter(|row| row.is_wrong && row.peer().is_none()).count();
    Ok(Outcome { text: Report { machine, rows }.write(args.format)?, wrong })
}

fn of_layers(
    layers: &[&LayerSpec],
    arena: &mut Arena<'_>,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for layer in layers {
        progress.set_message(layer.id.clone());
        let of_layer = arena.contest(layer)?;
        // A log that is kept says how far a long run came, and what it found until then.
        if progress.is_hidden() {
            let fastest = of_layer.iter().filter_map(|row| Some((row.gflops?, row.algorithm.as_str())));
            let (gflops, name) = fastest.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, "none"));
            eprintln!("{}: fastest {name}, {gflops:.1} GFLOP/s", layer.id);
        }
        rows.extend(of_layer);
        progress.inc(1);
    }
    Ok(rows)
}

/// Nothing where standard error is no terminal.
fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{pos}/{len} {wide_msg} {elapsed} of about {duration}");
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

/// The peers, each for every instruction set on which it can be held against ours.
fn workers(args: &Args, engines: &[&'static Engine], isas: &[Isa], threads: usize) -> Vec<Worker> {
    let Some(folder) = &args.peers else { return Vec::new() };
    let pairs = isas.iter().flat_map(|&isa| engines.iter().map(move |&engine| (engine, isa)));
    let pairs = pairs.filter(|(engine, isa)| engine.takes_part(*isa, args.cold));
    pairs.map(|(engine, isa)| Worker::new(engine, folder, threads, isa)).collect()
}

/// The median of all rounds of all layers. Percentages are of each layer's own rounds.
fn sustained(arena: &Arena<'_>, bandwidths: [Bandwidth; 3]) -> Vec<Roofs> {
    let roof = |roof: &Roof| Roofs {
        isa: roof.isa,
        threads: arena.crew.threads(),
        gflops: roof.flops / median(&roof.seconds) / 1e9,
        best: median(&roof.seconds) / least(&roof.seconds),
        bandwidths,
    };
    arena.roofs.iter().map(roof).collect()
}

fn machine_line() -> String {
    let isas: Vec<&str> = Isa::available().map(Isa::name).collect();
    let (os, cpu) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("{cpu} {os}, {} cores, instruction sets {}", num_cpus::get_physical(), isas.join(" "))
}

fn memory_line(args: &Args) -> String {
    match args.cold {
        true => format!("cold: rings of {} MB of weights and activations", args.cold_mb),
        false => "warm: the same weights and activations in every run".to_owned(),
    }
}

/// What the roofs are.
fn lines(roofs: &[Roofs], crew: &Crew) -> Vec<String> {
    let of_isa = |roof: &Roofs| {
        let burst = crew.enter(|| peak::burst(roof.isa, crew)).unwrap_or(f64::NAN);
        // Registers wait for nobody: what makes them slow is that something else is running.
        let busy = if roof.best > BUSY { "; THE MACHINE IS BUSY, its numbers mean little" } else { "" };
        let best = roof.gflops * roof.best;
        format!(
            "{} thread(s), {}: FMA roof {:.1} GFLOP/s sustained, {best:.1} in the best round, {burst:.1} in a burst{busy}",
            roof.threads, roof.isa, roof.gflops
        )
    };
    let of_memory = |roof: &Roofs| {
        let levels = roof.bandwidths.iter().map(|level| format!("{} {:.1} GB/s", level.level, level.gbs));
        format!("{} thread(s): {}", roof.threads, levels.collect::<Vec<_>>().join(", "))
    };
    roofs.iter().map(of_isa).chain(roofs.first().map(of_memory)).collect()
}
