//! The program `shootout`: one table of layers by algorithm, instruction set, layout and number of threads.

mod args;
mod balance;
mod contest;
mod entries;
mod log;
mod plot;
mod ratios;
mod redraw;
mod regret;
mod regret_plot;
mod report;
mod roofs;
mod row;
mod summary;
mod volumes;

use crate::cli::{Format, Outcome, progress};
use crate::direction::Direction;
use crate::layers::{LayerSpec, List};
pub use crate::peers::Engine;
use crate::peers::{self, Task, Worker};
use crate::pin::Crew;
use crate::volume::VolumeSpec;
use anyhow::Context;
pub use args::{Args, Candidate};
use contest::Arena;
use indicatif::ProgressBar;
use kernels::Isa;
use log::Log;
use plot::Roofs;
use regret::Judgement;
use report::LayerReport;
use roofs::Roof;
pub(crate) use roofs::machine;
pub use row::LayerRow;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Runs the program with `args`. Progress and roofs go to standard error.
///
/// # Errors
/// Unknown names, instruction sets that this machine does not have, and peers that are not installed.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let isas = args.isas()?;
    // The layers of a redrawn file need not be in the list.
    if let Some(file) = &args.redraw {
        return redrawn(args, file);
    }
    anyhow::ensure!(args.summary.is_none() || args.peers.is_some(), "--summary needs --peers or --redraw");
    let subjects = match args.list {
        List::Volumes => volumes::selected(args)?.into_iter().map(Subject::Volume).collect(),
        _ => {
            let layers = args.layers()?;
            if args.balance {
                return balance::run(args, &layers);
            }
            layers.into_iter().map(Subject::Image).collect::<Vec<_>>()
        }
    };
    if args.roofs {
        return roofs_alone(&isas);
    }
    if let Some(other) = args.engines.iter().find(|engine| !engine.is_comparable(args.numerics)) {
        anyhow::bail!("{} does not have the precision of --numerics {}", other.name, args.numerics);
    }
    let directions = args.directions()?;
    let task = |&direction: &Direction| match args.list {
        List::Volumes => Task::of_volume(direction),
        _ => Task::of_layer(direction),
    };
    let tasks: Vec<Task> = directions.iter().map(task).collect();
    let engines = args
        .peers
        .as_deref()
        .map(|folder| peers::installed(folder, &args.engines, &tasks, &[args.numerics]))
        .transpose()?;
    let engines = engines.unwrap_or_default();
    if let Some(idle) =
        args.engines.iter().find(|engine| !isas.iter().any(|&isa| engine.takes_part(isa, args.cold)))
    {
        anyhow::bail!("{} supports neither another instruction set than the best nor --cold", idle.name);
    }
    // Open the files before the measurements, which can take hours.
    let files = Files::new(args)?;
    let mut log =
        args.out.as_deref().map(|file| Ok::<_, anyhow::Error>(Log::new(create(file)?))).transpose()?;
    let (mut rows, mut measured, mut machine) = (Vec::new(), Vec::new(), vec![roofs::machine()]);
    let passes: Vec<(&Subject, Direction)> = subjects
        .iter()
        .flat_map(|layer| directions.iter().map(move |&direction| (layer, direction)))
        .collect();
    let progress = progress(passes.len() * args.thread_counts().len());
    for threads in args.thread_counts() {
        let crew = Crew::new(threads)?;
        let mut arena = Arena {
            args,
            crew: &crew,
            isas: &isas,
            workers: workers(args, &engines, &isas, threads),
            roofs: Roof::all(&isas),
        };
        let mut of_crew_rows = of_layers(&passes, &mut arena, &progress, log.as_mut())?;
        let of_crew = roofs::measure(&arena.roofs, &crew);
        for row in &mut of_crew_rows {
            let roof = of_crew.iter().find(|roof| roof.isa.name() == row.isa);
            let bound = roof.map(|roof| roof.bound(row.intensity, row.bytes, args.cold));
            row.bound_ratio = bound.zip(row.gflops).map(|(bound, gflops)| bound / gflops);
        }
        rows.extend(of_crew_rows);
        machine.extend(roofs::lines(&of_crew));
        measured.extend(of_crew);
    }
    progress.finish_and_clear();
    machine.push(memory_line(args));
    let roofs: Vec<Roofs<'_>> = measured.iter().map(roofs::MeasuredRoof::drawn).collect();
    outcome(args, LayerReport { machine, rows }, &roofs, files)
}

/// The same from the rows of an earlier run.
fn redrawn(args: &Args, file: &Path) -> anyhow::Result<Outcome> {
    let rows = redraw::rows(file, &args.filter)?;
    let files = Files::new(args)?;
    let roofs = redraw::roofs(&rows);
    let drawn = |&(isa, threads, gflops): &_| Roofs { isa, threads, gflops, bandwidths: &[] };
    let roofs: Vec<Roofs<'_>> = roofs.iter().map(drawn).collect();
    outcome(args, LayerReport { machine: vec![format!("rows of {}", file.display())], rows }, &roofs, files)
}

/// The files of results that are written at the end.
struct Files {
    plot: Option<File>,
    summary: Option<File>,
}

impl Files {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let created = |path: &Option<PathBuf>| path.as_deref().map(create).transpose();
        Ok(Self { plot: created(&args.plot)?, summary: created(&args.summary)? })
    }
}

/// Plots, judges and formats the results.
fn outcome(args: &Args, report: LayerReport, roofs: &[Roofs<'_>], files: Files) -> anyhow::Result<Outcome> {
    let rows = &report.rows;
    if matches!(args.format, Format::Json | Format::Csv) {
        report.machine.iter().for_each(|line| eprintln!("{line}"));
    }
    let judgements = match args.assert_choice {
        Some(_) => Judgement::all(rows),
        None => Vec::new(),
    };
    if let Some(mut file) = files.summary {
        file.write_all(report.summary()?.as_bytes()).context("cannot write the summary")?;
    }
    if let Some(mut file) = files.plot {
        let svg = match args.assert_choice {
            Some(_) => regret_plot::svg(&judgements),
            None => plot::svg(rows, roofs),
        };
        file.write_all(svg.as_bytes()).context("cannot write the plot")?;
    }
    let wrong = rows.iter().filter(|row| row.is_wrong && row.peer().is_none()).count();
    let notes: Vec<String> = judgements.iter().map(Judgement::text).collect();
    let notes = notes.join("\n");
    let failure = args.assert_choice.and_then(|percent| {
        let auto = judgements.iter().find(|judgement| judgement.choice == Candidate::Auto);
        let loss = 100.0 * (auto.map_or(f64::NAN, Judgement::mean) - 1.0);
        // NaN counts as a failure.
        (loss.is_nan() || loss > percent)
            .then(|| format!("auto is {loss:.2} % slower than the fastest algorithm, more than {percent} %"))
    });
    let text = match args.format {
        Format::Json | Format::Csv => {
            eprint!("{}{notes}", report.comparison(Format::Text));
            report.write(args.format)?
        }
        _ => report.write(args.format)? + "\n" + &notes,
    };
    Ok(Outcome { text, wrong, failure })
}

fn create(file: &Path) -> anyhow::Result<File> {
    File::create(file).with_context(|| format!("cannot write {}", file.display()))
}

/// `--roofs`: measures with one thread, and with one thread per core.
fn roofs_alone(isas: &[Isa]) -> anyhow::Result<Outcome> {
    let mut lines = vec![roofs::machine()];
    let mut counts = vec![1, num_cpus::get_physical()];
    counts.dedup();
    for threads in counts {
        lines.extend(roofs::lines(&roofs::survey(isas, &Crew::new(threads)?)));
    }
    Ok(Outcome { text: lines.join("\n") + "\n", wrong: 0, failure: None })
}

/// A layer of a contest.
enum Subject {
    Image(LayerSpec),
    Volume(VolumeSpec),
}

impl Subject {
    fn id(&self) -> &str {
        match self {
            Self::Image(layer) => &layer.id,
            Self::Volume(layer) => &layer.id,
        }
    }
}

fn of_layers(
    passes: &[(&Subject, Direction)],
    arena: &mut Arena<'_>,
    progress: &ProgressBar,
    mut log: Option<&mut Log>,
) -> anyhow::Result<Vec<LayerRow>> {
    let mut rows = Vec::new();
    for &(subject, direction) in passes {
        let id = subject.id();
        progress.set_message(id.to_owned());
        let of_layer = match subject {
            Subject::Image(layer) => arena.contest(layer, direction)?,
            Subject::Volume(layer) => arena.volume_contest(layer, direction)?,
        };
        // If standard error is a log file, print each layer's result as it is done.
        if progress.is_hidden() {
            let fastest = of_layer.iter().filter_map(|row| Some((row.gflops?, row.algorithm.as_str())));
            let (gflops, name) = fastest.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, "none"));
            eprintln!("{id}, {direction}: fastest {name}, {gflops:.1} GFLOP/s");
        }
        if let Some(log) = &mut log {
            log.write(&of_layer)?;
        }
        rows.extend(of_layer);
        progress.inc(1);
    }
    Ok(rows)
}

/// One worker per peer and instruction set that can be compared.
fn workers(args: &Args, engines: &[&'static Engine], isas: &[Isa], threads: usize) -> Vec<Worker> {
    let Some(folder) = &args.peers else { return Vec::new() };
    let pairs = isas.iter().flat_map(|&isa| engines.iter().map(move |&engine| (engine, isa)));
    let pairs = pairs.filter(|(engine, isa)| engine.takes_part(*isa, args.cold));
    pairs.map(|(engine, isa)| Worker::new(engine, folder, threads, isa)).collect()
}

fn memory_line(args: &Args) -> String {
    match args.cold {
        true => format!("cold: rings of {} MB of weights and activations", args.cold_mb),
        false => "warm: the same weights and activations in every run".to_owned(),
    }
}
