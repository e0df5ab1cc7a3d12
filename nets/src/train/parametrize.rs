//! Weights of a network that are computed from other tensors.

use super::form::{Form, Parametrization, norm};
use super::parameter::Params;
use crate::graph::Graph;
use crate::layer::{Layer, Param, Role};
use std::collections::HashMap;

impl Params {
    /// Computes the weights of layers from other tensors from now on. The gains are parameters behind all others.
    pub(super) fn parametrize(&mut self, graph: &Graph, kind: Parametrization) {
        let layers: HashMap<&str, &Layer> =
            graph.nodes().iter().map(|node| (node.name.as_str(), &node.layer)).collect();
        for index in 0..self.len() {
            let (name, param) = self.of(index);
            let (Some((layer, _)), true) = (name.rsplit_once('.'), self.is_trained(index)) else { continue };
            let Some(mut form) = layers.get(layer).and_then(|&of| Form::new(kind, of, param)) else {
                continue;
            };
            if kind == Parametrization::WeightNorm {
                let param = Param { name: "gain", dims: vec![param.dims[0]], role: Role::Scale };
                form.gain = Some(self.add_derived(format!("{layer}.gain"), param));
            }
            self.forms[index] = Some(form);
        }
        self.decompose();
    }

    /// Makes the present weights the trained tensors, with their lengths as gains.
    pub(super) fn decompose(&mut self) {
        for (index, form) in self.forms.iter_mut().enumerate() {
            let Some(form) = form else { continue };
            form.raw.copy_from_slice(&self.values[index]);
            let Some(gain) = form.gain else { continue };
            let lengths = form.raw.chunks_exact(form.row).map(|row| norm(row) as f32);
            self.values[gain].iter_mut().zip(lengths).for_each(|(gain, length)| *gain = length);
        }
        self.compose();
    }

    /// Computes the weights from the trained tensors.
    pub(super) fn compose(&mut self) {
        for (index, form) in self.forms.iter().enumerate() {
            let Some(form) = form else { continue };
            let mut weights = std::mem::take(&mut self.values[index]);
            form.compute(form.gain.map(|gain| &self.values[gain][..]), &mut weights);
            self.values[index] = weights;
        }
    }

    /// Computes the gradients of the trained tensors from those of the weights.
    pub(super) fn pull_back(&mut self) {
        for (index, form) in self.forms.iter_mut().enumerate() {
            let Some(form) = form else { continue };
            let of_weights = std::mem::take(&mut self.gradients[index]);
            let gains = form.gain.map(|gain| (&self.values[gain][..], &mut self.gradients[gain][..]));
            form.pull_back(gains, &of_weights);
            self.gradients[index] = of_weights;
        }
    }

    /// The trained tensors from which weights are computed, by the names of these weights, and the gains.
    #[cfg(feature = "train")]
    pub(super) fn trained_forms(&self) -> impl Iterator<Item = (&str, &[f32])> {
        let forms = self.forms.iter().enumerate().filter_map(|(index, form)| Some((index, form.as_ref()?)));
        forms.flat_map(|(index, form)| {
            let gain = form.gain.map(|gain| (self.of(gain).0, &self.values[gain][..]));
            [(self.of(index).0, &form.raw[..])].into_iter().chain(gain)
        })
    }

    /// Continues with trained tensors that were saved.
    ///
    /// # Errors
    /// What is missing.
    #[cfg(feature = "train")]
    pub(super) fn restore_forms(
        &mut self,
        mut saved: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), String> {
        for index in 0..self.forms.len() {
            let name = self.of(index).0.to_owned();
            let gain = match &self.forms[index] {
                Some(form) => form.gain,
                None => continue,
            };
            let mut read = |name: &str, len: usize| {
                let tensor = saved(name).filter(|tensor| tensor.len() == len);
                tensor.ok_or_else(|| format!("no `{name}` of {len} trained elements"))
            };
            let raw = read(&name, self.values[index].len())?;
            if let Some(gain) = gain {
                self.values[gain] = read(self.of(gain).0, self.values[gain].len())?;
            }
            if let Some(form) = &mut self.forms[index] {
                form.raw = raw;
            }
        }
        self.compose();
        Ok(())
    }
}
