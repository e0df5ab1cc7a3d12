//! `nets run`: runs a network on pictures or on a tensor.

mod args;
mod digits;
mod photos;
mod tensor;

use super::source::{self, Network};
use anyhow::ensure;
pub(super) use args::RunArgs;

impl RunArgs {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let network = Network::named(&self.network)?;
        match &network {
            _ if !self.input.is_empty() => tensor::execute(self, &network),
            Network::Zoo(entry) if source::reads_digits(entry)? => {
                let has_weights = self.weights.is_some() || self.seed.is_some() || source::is_lenet5(entry)?;
                ensure!(
                    has_weights,
                    "{}: expected --weights FILE.safetensors (or --seed N for random ones), got neither",
                    entry.name
                );
                digits::execute(self, &network, entry.name)
            }
            _ => photos::execute(self, &network),
        }
    }
}
