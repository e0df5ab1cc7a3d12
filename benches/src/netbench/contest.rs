//! One network with one batch size: every engine prepares it, is checked, takes its turns, and reports its footprint.

use super::args::Args;
use super::model::{Model, distance};
use super::row::{NetRow, megabytes};
use crate::peak::{self, Arithmetic, SUSTAINED};
use crate::peers::{Engine, Worker};
use crate::pin::Crew;
use crate::turns::{Rival, take_turns};
use kernels::{Isa, Numerics};
use std::path::Path;

/// An engine on the threads of one crew.
struct Contestant<'a> {
    crew: usize,
    worker: Worker,
    row: NetRow,
    model: &'a Model,
}

impl<'a> Contestant<'a> {
    fn new(
        engine: &'static Engine,
        (folder, isa): (&Path, Isa),
        (index, crew): (usize, &Crew),
        model: &'a Model,
    ) -> Self {
        let row = NetRow {
            net: model.name.clone(),
            batch: model.batch,
            threads: crew.threads(),
            engine: engine.name.to_owned(),
            numerics: engine.numerics,
            is_wrong: true,
            ..NetRow::default()
        };
        Self { crew: index, worker: Worker::new(engine, folder, crew.threads(), isa), row, model }
    }

    /// The output. If there is none, the note says why.
    fn output(&mut self, crew: &Crew) -> Option<Vec<f32>> {
        let prepared = self.worker.prepare(crew, &self.model.request());
        let ran = prepared.and_then(|note| Ok((note, self.worker.output(&self.model.file("output"))?)));
        match ran {
            Ok((note, output)) => {
                self.row.note = note;
                Some(output)
            }
            Err(error) => {
                self.row.note = error;
                None
            }
        }
    }

    /// Records the memory of the process, and for the library its footprint, after the rounds.
    fn footprint(&mut self, args: &Args) {
        self.row.peak_mb = self.worker.peak_bytes().map(megabytes);
        if !self.row.is_ours() || self.row.is_wrong {
            return;
        }
        let answer = self.worker.ask("footprint").ok();
        if let Some(footprint) = answer.and_then(|text| serde_json::from_str(&text).ok()) {
            self.row.footprint(footprint);
        }
        if args.layers {
            let answer = self.worker.ask(&format!("layers {}", args.seconds.as_secs_f64()));
            match answer.map(|text| serde_json::from_str(&text)) {
                Ok(Ok(alone)) => self.row.alone(alone),
                Ok(Err(error)) => self.row.note = error.to_string(),
                Err(error) => self.row.note = error,
            }
        }
    }
}

/// The rows of all engines on all crews. All of them take turns with each other.
pub(super) fn contest(
    args: &Args,
    model: &Model,
    crews: &[Crew],
    engines: &[&'static Engine],
) -> anyhow::Result<Vec<NetRow>> {
    let folder = args.peers.as_deref().unwrap_or(Path::new(""));
    let mut entries: Vec<Contestant<'_>> = Vec::new();
    for crew in crews.iter().enumerate() {
        let all = args.ours().chain(engines.iter().copied());
        entries.extend(all.map(|engine| Contestant::new(engine, (folder, args.isa()), crew, model)));
    }
    let reference = reference(args, model, &crews[0])?;
    compare(&mut entries, crews, reference)?;
    time(args, &mut entries, crews);
    // Each process reports its memory peak before it times layers alone, which would raise the peak.
    entries.iter_mut().for_each(|entry| entry.footprint(args));
    Ok(entries.into_iter().map(|entry| entry.row).collect())
}

/// The library's output in `f32`, if no timed engine of the library computes it. Its process ends here.
fn reference(args: &Args, model: &Model, crew: &Crew) -> anyhow::Result<Option<Vec<f32>>> {
    if args.numerics.iter().any(|&numerics| numerics <= Numerics::Fast) {
        return Ok(None);
    }
    let [_, default, ..] = &Engine::OURS;
    let mut entry = Contestant::new(default, (Path::new(""), args.isa()), (0, crew), model);
    match entry.output(crew) {
        Some(output) => Ok(Some(output)),
        None => anyhow::bail!("{}: {}", entry.row.net, entry.row.note),
    }
}

/// Compares every output with `ours`, or with the library's first output.
fn compare(entries: &mut [Contestant<'_>], crews: &[Crew], mut ours: Option<Vec<f32>>) -> anyhow::Result<()> {
    for entry in entries {
        let output = entry.output(&crews[entry.crew]);
        match (&ours, output) {
            (Some(ours), Some(output)) => entry.row.compared(distance(&output, ours)),
            (None, Some(output)) => {
                entry.row.compared(distance(&output, &output));
                ours = Some(output);
            }
            (None, None) => anyhow::bail!("{}: {}", entry.row.net, entry.row.note),
            (Some(_), None) => {}
        }
    }
    Ok(())
}

/// Times every engine that has an output.
fn time(args: &Args, entries: &mut [Contestant<'_>], crews: &[Crew]) {
    let slice = args.slice();
    let sustained = slice.max(SUSTAINED / args.rounds);
    let mut rivals: Vec<Rival<'_>> = Vec::new();
    // The roofs of each crew, if the instruction set has them.
    let mut roof = |crew, arithmetic| {
        rivals.push(peak::roof_of_crew(arithmetic, args.isa(), crew)?.with_slice(sustained));
        Some(rivals.len() - 1)
    };
    let roofs: Vec<[Option<usize>; 2]> =
        crews.iter().map(|crew| Arithmetic::ALL.map(|arithmetic| roof(crew, arithmetic))).collect();
    let first = rivals.len();
    let mut timed = Vec::new();
    for entry in entries.iter_mut().filter(|entry| entry.row.rel_l2_distance.is_some()) {
        let Contestant { crew, worker, row, model } = entry;
        rivals.push(Rival::external(&row.engine, model.flops, |slice| worker.turn(slice)));
        timed.push((*crew, row));
    }
    take_turns(&mut rivals, args.rounds as usize, slice);
    let (of_roofs, of_engines) = rivals.split_at(first);
    for ((crew, row), rival) in timed.into_iter().zip(of_engines) {
        row.timed(rival, roofs[crew].map(|index| index.map(|index| &of_roofs[index])));
    }
}
