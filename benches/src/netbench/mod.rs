//! The program `netbench`: one table of whole networks by engine, batch size and number of threads.
//!
//! A network of the zoo is exported once as ONNX. Every engine, including this library, gets that file and
//! the same input, in its own process, which blocks until it gets a request.

mod accuracy;
mod alone;
mod args;
mod contest;
mod model;
mod report;
mod row;
mod serve;

use crate::cli::{Outcome, progress};
use crate::peers::{self, Engine, Task};
use crate::pin::Crew;
use crate::shootout::machine;
pub use args::Args;
use model::Model;
use report::NetReport;
pub use row::NetRow;
pub use serve::serve;

/// Runs the program with `args`. Progress goes to standard error.
///
/// # Errors
/// Unknown names, peers that are not installed, and files that cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let networks = args.networks()?;
    if args.accuracy {
        return accuracy::run(args, &networks);
    }
    let found = |folder| peers::installed(folder, &args.engines, &[Task::Network], &args.numerics);
    let mut engines: Vec<&'static Engine> = args.peers.as_deref().map(found).transpose()?.unwrap_or_default();
    if let Some(other) = args.engines.iter().find(|engine| !engine.takes_part(args.isa(), false)) {
        anyhow::bail!("{} cannot be limited to {}", other.name, args.isa());
    }
    engines.retain(|engine| engine.takes_part(args.isa(), false));
    let crews = args.thread_counts().into_iter().map(Crew::new).collect::<Result<Vec<_>, _>>()?;
    // Peers run with one number of threads at a time. All their processes together could exceed memory.
    let groups: Vec<&[Crew]> = if engines.is_empty() { vec![&crews] } else { crews.chunks(1).collect() };
    let progress = progress(networks.len() * args.batches().len() * groups.len());
    let mut rows: Vec<NetRow> = Vec::new();
    for network in &networks {
        for batch in args.batches() {
            let model = Model::new(network, batch)?;
            for &group in &groups {
                progress.set_message(format!("{} x {batch}", model.name));
                let of_net = contest::contest(args, &model, group, &engines)?;
                // If standard error is a log file, print each row as it is done.
                if progress.is_hidden() {
                    of_net.iter().for_each(|row| eprintln!("{}", report::line(row)));
                }
                rows.extend(of_net);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    let report = NetReport { machine: machine(), rows };
    Ok(Outcome { wrong: report.wrong(), text: report.write(args.format)?, failure: None })
}
