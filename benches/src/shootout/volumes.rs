//! `--list volumes`: the contests of 3-D layers.

use super::args::{Args, Candidate};
use super::contest::{Arena, Asked, Call};
use super::row::LayerRow;
use crate::direction::Direction;
use crate::layers::nearest;
use crate::peers::{Task, Worker, volume_request};
use crate::volume::{VolumeLayer, VolumeProblem, VolumeSpec};
use anyhow::Context;
use kernels::{ConvError, Isa, Layout, VolumeLayout};
use tempfile::TempDir;

/// The layers that `--filter` and `--batch` select.
///
/// # Errors
/// A name that selects nothing, and options that 3-D layers do not have.
pub(super) fn selected(args: &Args) -> anyhow::Result<Vec<VolumeSpec>> {
    let without = [
        ("--layer", !args.layer.is_empty()),
        ("--layers", !args.layers.is_empty()),
        ("--random", args.random > 0),
        ("--cold", args.cold),
        ("--measured", args.measured || args.algorithm.contains(&Candidate::Measured)),
        ("--assert-choice", args.assert_choice.is_some()),
        ("--balance", args.balance),
        ("--plot", args.plot.is_some()),
        ("--summary", args.summary.is_some()),
        ("--direction transposed", args.direction.contains(&Direction::Transposed)),
    ];
    if let Some((option, _)) = without.iter().find(|(_, is_given)| *is_given) {
        anyhow::bail!("--list volumes: expected no {option}, which 3-D layers do not have here");
    }
    let mut layers = Vec::new();
    for spec in VolumeSpec::all() {
        let is_meant = |name: &String| name == "all" || spec.id.starts_with(name.as_str());
        if args.filter.is_empty() || args.filter.iter().any(is_meant) {
            layers.push(args.batch.map_or_else(|| spec.clone(), |n| spec.at_batch(n.into())));
        }
    }
    let ids = || VolumeSpec::all().iter().map(|spec| spec.id.as_str());
    let is_unknown = |name: &&String| *name != "all" && !ids().any(|id| id.starts_with(name.as_str()));
    if let Some(name) = args.filter.iter().find(is_unknown) {
        anyhow::bail!("no 3-D layer is called {name}{}", nearest(name, ids()));
    }
    Ok(layers)
}

/// The layout of volumes that corresponds to one of images.
fn of_volumes(layout: Layout) -> anyhow::Result<VolumeLayout> {
    Ok(match layout {
        Layout::Nchw => VolumeLayout::Ncdhw,
        Layout::Nhwc => VolumeLayout::Ndhwc,
        Layout::Nchw16c => VolumeLayout::Ndchw16c,
        _ => anyhow::bail!("--list volumes: expected the layout nchw, nhwc or nchw16c, got {layout}"),
    })
}

impl Arena<'_> {
    /// The rows of a 3-D layer in `direction`: like those of [`contest`](Self::contest).
    pub(super) fn volume_contest(
        &mut self,
        spec: &VolumeSpec,
        direction: Direction,
    ) -> anyhow::Result<Vec<LayerRow>> {
        let problem = VolumeProblem::new(spec, direction, self.args.numbers);
        let mut ours = self.planned(&problem)?;
        let limit = problem.tolerance(self.args.numerics);
        let threads = self.crew.plan_threads();
        for (row, layer) in &mut ours {
            self.crew.enter(|| layer.run(threads));
            row.checked(layer.errors(), limit);
        }
        let files = TempDir::new()?;
        let asked = Asked {
            task: Task::of_volume(direction),
            verb: volume_request(direction),
            operands: problem.operands(),
            extents: spec.extents(),
        };
        let named = (spec.id.clone(), direction);
        let row = |worker: &Worker| {
            LayerRow::bare(named.clone(), format!("peer:{}", worker.engine.name), worker.isa, "own")
        };
        let mut guests = self.ask(&asked, files.path(), row, |output| problem.errors_of_plain(output))?;
        let right = ours.iter_mut().filter(|(row, _)| !row.is_wrong);
        let calls = right.map(|(row, layer)| Call { row, run: Box::new(move || layer.run(threads)) });
        let calls = calls.collect();
        self.race(asked.task, 2.0 * spec.macs() as f64, calls, &mut guests);
        let mut rows = Vec::new();
        for (mut row, layer) in ours {
            if !row.is_wrong {
                row.checked(layer.errors(), limit);
            }
            if row.is_wrong {
                row.untimed();
            }
            rows.push(row);
        }
        rows.extend(guests);
        let threads = self.crew.threads();
        rows.iter_mut().for_each(|row| row.threads = threads);
        Ok(rows)
    }

    /// The plans of every instruction set, layout and algorithm that can do the layer. By default, the library chooses.
    fn planned<'p>(&self, problem: &'p VolumeProblem) -> anyhow::Result<Vec<(LayerRow, VolumeLayer<'p>)>> {
        let mut all = Vec::new();
        let candidates = match &self.args.algorithm[..] {
            [] => &[Candidate::Auto],
            some => some,
        };
        for (isa, layout) in
            self.isas.iter().flat_map(|&isa| self.args.layouts().into_iter().map(move |l| (isa, l)))
        {
            let layout = of_volumes(layout)?;
            for &candidate in candidates {
                match self.volume(problem, candidate, (isa, layout)) {
                    Ok(planned) => all.push(planned),
                    Err(ConvError::Unsupported { .. }) => {}
                    Err(error) => return Err(error).context(problem.spec.id.clone()),
                }
            }
        }
        Ok(all)
    }

    fn volume<'p>(
        &self,
        problem: &'p VolumeProblem,
        candidate: Candidate,
        (isa, layout): (Isa, VolumeLayout),
    ) -> Result<(LayerRow, VolumeLayer<'p>), ConvError> {
        let options = self.args.options(candidate, isa, self.crew.threads());
        let layer = VolumeLayer::new(problem, layout, &options)?;
        let named = (problem.spec.id.clone(), problem.direction);
        let mut row = LayerRow::bare(named, candidate.to_string(), isa, layout.name());
        row.note = layer.method();
        row.chosen = candidate.is_choice().then(|| layer.method());
        Ok((row, layer))
    }
}
