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
        match (&self.input, &network) {
            (Some(input), _) => tensor::execute(self, &network, input),
            (None, Network::Zoo(entry)) if source::is_lenet5(entry)? => digits::execute(self, &network),
            (None, _) => photos::execute(self, &network),
        }
    }
}
