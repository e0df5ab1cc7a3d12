//! The networks, one family per file; each reads like the table of its paper.

mod lenet5;

pub use lenet5::lenet5;

use crate::error::NetError;
use crate::graph::Graph;

/// A network that can be asked for by name.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What it is called on the command line.
    pub name: &'static str,
    /// One line on what it is.
    pub summary: &'static str,
    /// Builds its graph.
    pub build: fn() -> Result<Graph, NetError>,
}

/// Every network there is.
pub const ALL: &[Entry] = &[Entry {
    name: "lenet5",
    summary: "LeNet-5 as it is usually built today, 10 digits (LeCun et al. 1998)",
    build: lenet5,
}];

/// The network of that name.
///
/// # Errors
/// [`NetError::UnknownNetwork`], which lists the names there are and suggests the nearest.
pub fn find(name: &str) -> Result<&'static Entry, NetError> {
    ALL.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|entry| entry.name).collect();
        let likeness = |candidate: &str| strsim::jaro_winkler(&name.to_lowercase(), candidate);
        let nearest = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let hint = nearest.filter(|nearest| likeness(nearest) > 0.7);
        NetError::UnknownNetwork {
            name: name.to_owned(),
            known: known.join(", "),
            hint: hint.map_or(String::new(), |nearest| format!(", did you mean `{nearest}`?")),
        }
    })
}
