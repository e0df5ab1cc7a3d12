//! [`Updates`]: what happens to the parameters in a step.

use super::full::{self, FullBatch};
use super::norms::{Change, are_finite};
use super::recipe::{Method, Recipe};
use super::trained::Trained;
use crate::data::Feed;
use crate::error::NetError;
use crate::graph::Graph;
use crate::layer::Role;
use crate::optim::{Average, Lbfgs, Optimizer};
use crate::train::{ParameterMut, TrainNet};
use crate::weights::WeightSet;
use kernels::Threads;
use std::collections::HashMap;

/// The optimiser, the average of the weights, and figures of the steps.
#[derive(Debug)]
pub(super) struct Updates {
    engine: Engine,
    average: Option<Average>,
    parameters: Vec<Trained>,
    change: Change,
}

#[derive(Debug)]
enum Engine {
    Steps(Optimizer),
    FullBatch(Lbfgs),
}

/// A step.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepOptions {
    /// The number of the step, from 0.
    pub(super) step: u64,
    /// The learning rate.
    pub(super) rate: f64,
    /// Whether to compare the step with the weights.
    pub(super) measure: bool,
}

impl Updates {
    pub(super) fn new(net: &TrainNet, recipe: &Recipe) -> Self {
        let parameters = net.parameters().map(|parameter| Trained {
            name: parameter.name.to_owned(),
            len: parameter.value.len(),
            is_weight: matches!(parameter.role, Role::Weight { .. }),
            scale: recipe.scale(parameter.name),
            ratio: None,
        });
        let parameters: Vec<Trained> = parameters.collect();
        let lens = || parameters.iter().map(|parameter| parameter.len);
        let engine = match recipe.method {
            Method::Steps(rule) => {
                let named = parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.len));
                Engine::Steps(Optimizer::new(rule, recipe.penalty, named))
            }
            Method::Lbfgs { history } => Engine::FullBatch(Lbfgs::new(recipe.rate, history)),
        };
        let average = recipe.average.map(|decay| Average::new(decay, lens()));
        let change = Change::new(lens().max().unwrap_or(0));
        Self { engine, average, parameters, change }
    }

    /// Names of the parameters that are trained.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|parameter| parameter.name.as_str())
    }

    /// Updates every parameter by its gradient.
    ///
    /// # Errors
    /// [`NetError::NotFinite`] names the parameter where the gradient is no longer finite. Gradients come from the end of the
    /// network, so it is the last such parameter.
    pub(super) fn step(
        &mut self,
        net: &mut TrainNet,
        options: StepOptions,
        threads: Threads<'_>,
    ) -> Result<(), NetError> {
        let Self { engine: Engine::Steps(optimizer), average, parameters, change } = self else {
            return Ok(());
        };
        optimizer.begin();
        average.iter_mut().for_each(Average::begin);
        let mut fault = None;
        net.update(
            |index, parameter: ParameterMut<'_>| {
                let trained = &mut parameters[index];
                debug_assert_eq!(trained.name, parameter.name, "the order of the graph");
                if !are_finite(parameter.gradient) {
                    fault = Some(index);
                }
                if fault.is_some() {
                    return;
                }
                if options.measure {
                    change.before(parameter.value);
                }
                let rate = options.rate * trained.scale;
                optimizer.step(index, rate, parameter.value, parameter.gradient, trained.is_weight);
                if options.measure {
                    trained.ratio = change.after(parameter.value);
                }
                if let Some(average) = average {
                    average.add(index, parameter.value);
                }
            },
            threads,
        )?;
        match fault {
            Some(index) => {
                let place = self.parameters[index].name.clone();
                Err(NetError::NotFinite { step: options.step, what: "a gradient", place })
            }
            None => Ok(()),
        }
    }

    /// One step of L-BFGS over all batches of `feed`. Returns the loss after it; `None` for other optimisers.
    ///
    /// # Errors
    /// Those of the network and of the data.
    pub(super) fn full_step(
        &mut self,
        net: &mut TrainNet,
        recipe: &Recipe,
        feed: &Feed,
        threads: Threads<'_>,
    ) -> Result<Option<f64>, NetError> {
        let Self { engine: Engine::FullBatch(lbfgs), average, parameters, .. } = self else {
            return Ok(None);
        };
        let mut weights = full::weights(net);
        let mut batch = FullBatch { net, parameters, penalty: recipe.penalty, feed, threads };
        let loss = lbfgs.step(&mut weights, |weights, gradient| batch.evaluate(weights, gradient))?;
        if let Some(average) = average {
            average.begin();
            let mut rest = &weights[..];
            for (index, parameter) in parameters.iter().enumerate() {
                let (own, others) = rest.split_at(parameter.len);
                average.add(index, own);
                rest = others;
            }
        }
        Ok(Some(loss))
    }

    /// The cost of the weights of a network, besides its loss.
    pub(super) fn penalty(&self, recipe: &Recipe, net: &TrainNet) -> f64 {
        let penalised = self.parameters.iter().zip(net.parameters()).filter(|(trained, _)| trained.is_weight);
        penalised.map(|(_, parameter)| recipe.penalty.cost(parameter.value)).sum()
    }

    /// The size of the last measured step divided by the size of the weights, for each filter and matrix where it is a number.
    pub(super) fn ratios(&self) -> Vec<(String, f64)> {
        let weights = self.parameters.iter().filter(|parameter| parameter.is_weight);
        let ratios = weights.filter_map(|parameter| Some((parameter.name.clone(), parameter.ratio?)));
        ratios.filter(|(_, ratio)| ratio.is_finite()).collect()
    }

    /// The averaged weights, if there is an average of at least one step; other parameters as in `weights`.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] as for any weights.
    pub(super) fn averaged(&self, graph: &Graph, weights: &WeightSet) -> Result<Option<WeightSet>, NetError> {
        let Some(average) = self.average.as_ref().filter(|average| average.count() > 0) else {
            return Ok(None);
        };
        let values: HashMap<&str, &Vec<f32>> = self.names().zip(average.values()).collect();
        let averaged = WeightSet::from_params(graph, |name, _| {
            let own = values.get(name).map(|values| values.to_vec());
            Ok(own.or_else(|| Some(weights.get(name)?.data().to_vec())).unwrap_or_default())
        });
        averaged.map(Some)
    }

    /// Steps in the average of the weights.
    pub(super) fn count_averaged(&self) -> u64 {
        self.average.as_ref().map_or(0, Average::count)
    }

    /// All tensors that a checkpoint needs besides the weights.
    pub(super) fn state(&self) -> HashMap<String, Vec<f32>> {
        let mut state = HashMap::new();
        match &self.engine {
            Engine::Steps(optimizer) => {
                state.extend(
                    optimizer.state().map(|(name, data)| (format!("optimizer/{name}"), data.to_vec())),
                );
            }
            Engine::FullBatch(lbfgs) => {
                for (index, (step, change)) in lbfgs.state().enumerate() {
                    state.insert(format!("optimizer/{index}/step"), step.to_vec());
                    state.insert(format!("optimizer/{index}/change"), change.to_vec());
                }
            }
        }
        if let Some(average) = &self.average {
            let named = self.names().zip(average.values());
            state.extend(named.map(|(name, values)| (format!("average/{name}"), values.clone())));
        }
        state
    }

    /// Continues from a checkpoint after `steps` steps.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn restore(
        &mut self,
        (steps, averaged): (u64, u64),
        mut state: HashMap<String, Vec<f32>>,
    ) -> Result<(), String> {
        if let Some(average) = &mut self.average {
            let names = self.parameters.iter().map(|parameter| format!("average/{}", parameter.name));
            let values = names.map(|name| state.remove(&name).unwrap_or_default()).collect();
            if !average.restore(averaged, values) {
                return Err("averages of other lengths".to_owned());
            }
        }
        let strip =
            |(name, data): (String, Vec<f32>)| Some((name.strip_prefix("optimizer/")?.to_owned(), data));
        let mut state: HashMap<String, Vec<f32>> = state.into_iter().filter_map(strip).collect();
        match &mut self.engine {
            Engine::Steps(optimizer) => optimizer.restore(steps, &state).map_err(|error| error.to_string()),
            Engine::FullBatch(lbfgs) => {
                let pairs = (0..).map_while(|index| {
                    let step = state.remove(&format!("{index}/step"))?;
                    Some((step, state.remove(&format!("{index}/change"))?))
                });
                let pairs: Vec<_> = pairs.collect();
                let len: usize = self.parameters.iter().map(|parameter| parameter.len).sum();
                if pairs.iter().any(|(step, change)| [step.len(), change.len()] != [len; 2]) {
                    return Err(format!("steps of L-BFGS that do not have {len} elements"));
                }
                lbfgs.restore(pairs);
                Ok(())
            }
        }
    }
}
