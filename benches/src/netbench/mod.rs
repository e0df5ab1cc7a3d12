//! The program `netbench`: whole networks, numbers of images and of threads, engines; one table.
//!
//! A network of the zoo is written once as ONNX; every engine, the library among them, gets that file and the same input
//! in a process of its own, which sleeps unless it is asked.

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

/// Does what the arguments say. Progress goes to standard error.
///
/// # Errors
/// Names of nothing, peers that are not installed, files that cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let networks = args.networks()?;
    if args.accuracy {
        return accuracy::run(args, &networks);
    }
    let engines = args.peers.as_deref().map(|folder| peers::installed(folder, &args.engines, Task::Network));
    let engines: Vec<&'static Engine> = engines.transpose()?.unwrap_or_default();
    let crews = args.thread_counts().into_iter().map(Crew::new).collect::<Result<Vec<_>, _>>()?;
    // One number of threads at a time: the processes of all peers for all of them may be more than the memory holds.
    let groups: Vec<&[Crew]> = if engines.is_empty() { vec![&crews] } else { crews.chunks(1).collect() };
    let progress = progress(networks.len() * args.batches().len() * groups.len());
    let mut rows: Vec<NetRow> = Vec::new();
    for network in &networks {
        for batch in args.batches() {
            let model = Model::new(network, batch)?;
            for &group in &groups {
                progress.set_message(format!("{} x {batch}", model.name));
                let of_net = contest::contest(args, &model, group, &engines)?;
                // A log that is kept says how far a long run came.
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
