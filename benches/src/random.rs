//! Random layers that occur in no network, so that the model cannot have been fitted to them.

use crate::layers::LayerSpec;
use crate::splitmix::SplitMix64;

/// The prefix of ids of random layers.
pub(crate) const PREFIX: &str = "random";
/// Maximum multiply-accumulates of a layer, which bounds the time of a run.
pub const MOST_MACS: u64 = 1 << 30;
/// Maximum elements of all tensors together.
const MOST_NUMBERS: usize = 64 << 20;

/// A generator of random layers.
struct Generator(SplitMix64);

impl Generator {
    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        (self.0.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Log-uniform in 1..=`most`.
    fn log_uniform(&mut self, most: usize) -> usize {
        ((most as f64 + 1.0).powf(self.unit()) as usize).clamp(1, most)
    }

    /// Uniform in 1..=`most`.
    fn uniform(&mut self, most: usize) -> usize {
        1 + (self.0.next() % most as u64) as usize
    }

    /// True with a probability of `percent` per cent.
    fn percent(&mut self, percent: u64) -> bool {
        self.0.next() % 100 < percent
    }

    fn layer(&mut self) -> Option<LayerSpec> {
        let (mut c, mut o) = (self.log_uniform(1024), self.log_uniform(1024));
        let h = self.log_uniform(256);
        let w = if self.percent(75) { h } else { self.log_uniform(256) };
        let kh = self.uniform(11);
        let kw = if self.percent(85) { kh } else { self.uniform(11) };
        let stride = if self.percent(60) { 1 } else { self.uniform(3) };
        let pad = if self.percent(75) { kh.min(kw) / 2 } else { 0 };
        let groups = match self.0.next() % 20 {
            0..14 => 1,
            14..17 => c,
            _ => self.log_uniform(c.min(o)),
        };
        (c, o) = (c / groups * groups, o.div_ceil(groups) * groups);
        let n = self.log_uniform(8);
        let mut layer = LayerSpec::unlisted(PREFIX, [n, c, h, w, o, kh, kw, stride, pad, 1, groups]);
        let desc = layer.builder().build().ok()?;
        let output = desc.output();
        layer.macs = desc.cost().macs;
        let numbers = n * c * h * w + n * o * output.h * output.w + desc.filter_len();
        (layer.macs <= MOST_MACS && numbers <= MOST_NUMBERS && o <= 1024).then_some(layer)
    }
}

/// Generates `count` valid layers, reproducible by `seed`. Channels are log-uniform in 1..=1024 and map sides
/// in 1..=256. Kernels have 1 to 11 taps per axis, strides are 1 to 3, batches are 1 to 8, and three layers
/// in ten have groups. No layer has more than [`MOST_MACS`].
pub fn layers(count: usize, seed: u64) -> Vec<LayerSpec> {
    let mut generator = Generator(SplitMix64(seed));
    std::iter::from_fn(|| Some(generator.layer())).flatten().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::described::by_id;

    #[test]
    fn layers_are_valid_varied_and_the_same_again() {
        let (all, again) = (layers(300, 7), layers(300, 7));
        assert_eq!(all, again);
        assert_ne!(all, layers(300, 8));
        assert_eq!(all.len(), 300);
        for layer in &all {
            assert_eq!(layer.builder().build().unwrap().cost().macs, layer.macs, "{}", layer.id);
            assert!(layer.macs <= MOST_MACS);
            assert_eq!(by_id(&layer.id), Some(Ok(layer.clone())));
        }
        let some = |has: fn(&LayerSpec) -> bool| all.iter().filter(|layer| has(layer)).count();
        for (what, count) in [
            ("groups", some(|l| l.groups > 1)),
            ("strides", some(|l| l.stride > 1)),
            ("wide", some(|l| l.c > 256 || l.o > 256)),
            ("narrow", some(|l| l.c < 4)),
            ("large maps", some(|l| l.h > 64)),
            ("batches", some(|l| l.n > 1)),
        ] {
            assert!((20..280).contains(&count), "{what}: {count}");
        }
    }
}
