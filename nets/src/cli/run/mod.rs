//! `nets run`: runs a network on pictures or on a tensor.

mod args;
mod digits;
mod photos;
mod tensor;

use super::source::{self, Network};
pub(super) use args::RunArgs;

impl RunArgs {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let network = Network::named(&self.network)?;
        match &network {
            _ if !self.input.is_empty() => tensor::execute(self, &network),
            Network::Zoo(entry) if source::is_lenet5(entry)? => digits::execute(self, &network),
            _ => photos::execute(self, &network),
        }
    }
}
