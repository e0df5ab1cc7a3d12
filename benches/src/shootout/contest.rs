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
use crate::problem::{Errors, Problem};
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
        let asked = Asked {
            task: Task::of_layer(problem.direction),
            verb: request(problem.direction),
            operands: problem.operands(),
            extents: problem.spec.extents(),
        };
        let row = |worker: &Worker| {
            LayerRow::new(problem, format!("peer:{}", worker.engine.name), worker.isa, "own")
        };
        self.ask(&asked, files, row, |output| problem.errors_of_plain(output))
    }

    /// The rows of the peers that can do a task. `row` makes the row of a worker, and `errors` checks a result.
    pub(super) fn ask(
        &mut self,
        asked: &Asked<'_>,
        files: &Path,
        row: impl Fn(&Worker) -> LayerRow,
        errors: impl Fn(&[f32]) -> Errors,
    ) -> anyhow::Result<Vec<LayerRow>> {
        if self.workers.is_empty() {
            return Ok(Vec::new());
        }
        let (first, second, output) = (files.join("first"), files.join("second"), files.join("output"));
        write(&first, asked.operands[0])?;
        write(&second, asked.operands[1])?;
        let ring = match self.args.memory() {
            Memory::Warm => 0,
            Memory::Cold(bytes) => bytes,
        };
        let extents = asked.extents.map(|extent| extent.to_string()).join(" ");
        let request = format!("{} {} {} {ring} {extents}", asked.verb, first.display(), second.display());
        let mut rows = Vec::new();
        for worker in able(&mut self.workers, asked.task) {
            let mut row = row(worker);
            let prepared = worker.prepare(self.crew, &request);
            let ran = prepared.and_then(|note| Ok((note, worker.output(&output)?)));
            match ran {
                Ok((note, output)) => {
                    row.checked(errors(&output), tolerance::of_layer(worker.engine.numerics));
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
        let threads = self.crew.plan_threads();
        let rows = ours.rows.iter_mut().zip(&mut ours.layers).filter(|(row, _)| !row.is_wrong);
        let calls = rows.map(|(row, layer)| Call { row, run: Box::new(move || layer.run(threads)) });
        let calls = calls.collect();
        self.race(Task::of_layer(problem.direction), problem.spec.flops(), calls, guests);
    }

    /// Times calls of this library and the peers of a task in turns with the roofs.
    pub(super) fn race(&mut self, task: Task, flops: f64, ours: Vec<Call<'_>>, guests: &mut [LayerRow]) {
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
        for Call { row, run } in ours {
            rivals.push(Rival::new(&row.algorithm, flops, run));
            timed.push(row);
        }
        let workers = able(&mut self.workers, task);
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

/// What peers are asked to compute: the first words of the request, the tensors that they read, and the extents.
pub(super) struct Asked<'a> {
    pub(super) task: Task,
    pub(super) verb: &'static str,
    pub(super) operands: [&'a [f32]; 2],
    pub(super) extents: [usize; 11],
}

/// A call of this library to be timed, and its row.
pub(super) struct Call<'a> {
    pub(super) row: &'a mut LayerRow,
    pub(super) run: Box<dyn FnMut() + Send + 'a>,
}

/// The workers of engines that support `task`.
fn able(workers: &mut [Worker], task: Task) -> impl Iterator<Item = &mut Worker> {
    workers.iter_mut().filter(move |worker| worker.engine.supports(task))
}
