//! One layer: every candidate is planned, run, checked, timed in turns with roofs and peers, and checked again.

use super::args::Args;
use super::entries::Entries;
use super::roofs::Roof;
use super::row::LayerRow;
use crate::direction::Direction;
use crate::layer::Memory;
use crate::layers::LayerSpec;
use crate::peak::{Arithmetic, SUSTAINED};
use crate::peers::{Task, Worker, request, tolerance, write};
use crate::pin::Crew;
use crate::problem::Problem;
use crate::turns::{Rival, take_turns};
use kernels::Isa;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// The state shared by the contests of all layers on one crew.
pub(super) struct Arena<'a> {
    pub(super) args: &'a Args,
    pub(super) crew: &'a Crew,
    pub(super) isas: &'a [Isa],
    pub(super) workers: Vec<Worker>,
    pub(super) roofs: Vec<Roof>,
}

impl Arena<'_> {
    /// The rows of layer `spec` in `direction`.
    pub(super) fn contest(
        &mut self,
        spec: &LayerSpec,
        direction: Direction,
    ) -> anyhow::Result<Vec<LayerRow>> {
        let problem = Problem::of(spec, direction, self.args.numbers);
        let mut ours = Entries::plan(self.args, self.crew, self.isas, &problem)?;
        self.check(&mut ours);
        let files = TempDir::new()?;
        let mut guests = self.prepare(&problem, files.path())?;
        self.time(&problem, &mut ours, &mut guests);
        for (row, layer) in ours.rows.iter_mut().zip(&ours.layers).filter(|(row, _)| !row.is_wrong) {
            row.checked(layer.errors(), layer.tolerance());
        }
        ours.rows.iter_mut().filter(|row| row.is_wrong).for_each(LayerRow::untimed);
        let mut rows = ours.named();
        rows.extend(guests);
        let threads = self.crew.threads();
        rows.iter_mut().for_each(|row| row.threads = threads);
        Ok(rows)
    }

    /// Runs every slot of every layer once, on the threads that will time it, and checks that it overwrote
    /// the NaNs correctly.
    fn check(&self, ours: &mut Entries<'_>) {
        for (row, layer) in ours.rows.iter_mut().zip(&mut ours.layers) {
            let threads = self.crew.plan_threads();
            self.crew.enter(|| (0..layer.slots()).for_each(|_| layer.run(threads)));
            row.checked(layer.errors(), layer.tolerance());
        }
    }

    /// The checked rows of the peers. If a peer cannot do the layer, its note says so and it is not timed.
    fn prepare(&mut self, problem: &Problem, files: &Path) -> anyhow::Result<Vec<LayerRow>> {
        if self.workers.is_empty() {
            return Ok(Vec::new());
        }
        let (first, second, output) = (files.join("first"), files.join("second"), files.join("output"));
        let operands = problem.operands();
        write(&first, operands[0])?;
        write(&second, operands[1])?;
        let ring = match self.args.memory() {
            Memory::Warm => 0,
            Memory::Cold(bytes) => bytes,
        };
        let extents = problem.spec.extents().map(|extent| extent.to_string()).join(" ");
        let request = request(problem.direction);
        let request = format!("{request} {} {} {ring} {extents}", first.display(), second.display());
        let mut rows = Vec::new();
        for worker in able(&mut self.workers, problem.direction) {
            let mut row = LayerRow::new(problem, format!("peer:{}", worker.engine.name), worker.isa, "own");
            let prepared = worker.prepare(self.crew, &request);
            let ran = prepared.and_then(|note| Ok((note, worker.output(&output)?)));
            match ran {
                Ok((note, output)) => {
                    let tolerance = tolerance::of_layer(worker.engine.numerics);
                    row.checked(problem.errors_of_plain(&output), tolerance);
                    row.note = note;
                }
                Err(error) => row.note = error,
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Times the library's rows that are right, and every peer that has run.
    fn time(&mut self, problem: &Problem, ours: &mut Entries<'_>, guests: &mut [LayerRow]) {
        let flops = problem.spec.flops();
        let rounds = self.args.rounds as usize;
        // If only algorithms are compared with each other, a short turn of the roof is enough.
        let sustained = match self.args.assert_choice {
            None => SUSTAINED / self.args.rounds,
            Some(_) => Duration::ZERO,
        };
        let roofs = self.roofs.iter().filter_map(|roof| roof.rival(self.crew));
        let mut rivals: Vec<_> =
            roofs.map(|rival| rival.with_slice(sustained.max(self.args.slice()))).collect();
        let roof_count = rivals.len();
        let mut timed: Vec<&mut LayerRow> = Vec::new();
        let threads = self.crew.plan_threads();
        for (row, layer) in ours.rows.iter_mut().zip(&mut ours.layers).filter(|(row, _)| !row.is_wrong) {
            rivals.push(Rival::new(&row.algorithm, flops, move || layer.run(threads)));
            timed.push(row);
        }
        let workers = able(&mut self.workers, problem.direction);
        let has_run = |(row, _): &(&mut LayerRow, &mut Worker)| row.rel_l2_error.is_finite();
        for (row, worker) in guests.iter_mut().zip(workers).filter(has_run) {
            let turn = move |slice: Duration| worker.turn(slice);
            rivals.push(Rival::external(&row.algorithm, flops, turn));
            timed.push(row);
        }
        self.crew.enter(|| take_turns(&mut rivals, rounds, self.args.slice()));
        let (roofs, others) = rivals.split_at(roof_count);
        let roof_of = |isa: &str, arithmetic: Arithmetic| {
            let is_meant = |roof: &Roof| (roof.isa.name(), roof.arithmetic) == (isa, arithmetic);
            self.roofs.iter().zip(roofs).find(|(roof, _)| is_meant(roof)).map(|(_, rival)| rival)
        };
        for (row, rival) in timed.into_iter().zip(others) {
            row.timed(rival, Arithmetic::ALL.map(|arithmetic| roof_of(row.isa, arithmetic)));
        }
        for (roof, rival) in self.roofs.iter_mut().zip(roofs) {
            roof.extend(rival);
        }
    }
}

/// The workers of engines that can compute `direction`.
fn able(workers: &mut [Worker], direction: Direction) -> impl Iterator<Item = &mut Worker> {
    workers.iter_mut().filter(move |worker| worker.engine.supports(Task::of_layer(direction)))
}
