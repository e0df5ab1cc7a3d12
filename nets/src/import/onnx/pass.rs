//! One pass over the nodes of a model. Each becomes a constant, a layer, or a warning.

use super::importer::Importer;
use super::node::{Call, Outcome, Trouble, unsupported};
use super::ops;
use super::order::{label, place};
use super::plain;
use super::proto::NodeDef;
use super::value::{Constant, Data, Kind, Value};
use crate::error::OnnxError;

impl<'a> Importer<'a> {
    /// Imports every node. If `strict`, a node without a layer is an error.
    pub(super) fn run(&mut self, strict: bool) -> Result<(), OnnxError> {
        let graph = self.graph;
        for index in self.wiring.sorted(&graph.nodes, self.source)? {
            let def = &graph.nodes[index];
            let call = self.call(def);
            let imported = match self.import(index, &call) {
                Err(Trouble::Unsupported(why)) if !strict => self.unknown(&call, &why),
                other => other,
            };
            imported.map_err(|trouble| self.error(def, trouble))?;
        }
        Ok(())
    }

    fn call(&self, def: &'a NodeDef) -> Call<'a> {
        let inputs = def.inputs.iter().map(|name| self.values.get(name.as_str()).cloned()).collect();
        Call { def, inputs, opset: self.opset, source: self.source, name: label(def).to_owned() }
    }

    fn import(&mut self, index: usize, call: &Call<'a>) -> Outcome<()> {
        let unknown = call.inputs.iter().flatten().find_map(|input| match input {
            Value::Unknown(unknown) => Some(unknown.reason()),
            _ => None,
        });
        if let Some(reason) = unknown {
            return unsupported(reason);
        }
        let standard = matches!(call.def.domain.as_str(), "" | "ai.onnx");
        let folded = match self.folder.fold(call) {
            _ if !standard => None,
            // An operator that shapes are not computed with can still be one of tensors.
            Err(Trouble::Unsupported(why)) => match plain::import(self, call) {
                Ok(results) => return self.results(call, results),
                Err(other) => return unsupported(both(why, other)),
            },
            folded => folded?,
        };
        let value = match folded {
            Some(Constant { data: Data::Opaque(what), dims, kind }) => match plain::import(self, call) {
                Ok(results) => return self.results(call, results),
                Err(_) => Value::Constant(Constant { data: Data::Opaque(what), dims, kind }),
            },
            Some(constant) => {
                self.only_first(call, "a second result")?;
                Value::Constant(constant)
            }
            // Recurrent layers can have their last state as the only output.
            None if call.def.outputs.first().is_none_or(String::is_empty) => {
                if call.def.outputs.iter().all(String::is_empty) {
                    return unsupported("no output that could be read");
                }
                let results = plain::import(self, call)?;
                return self.results(call, results);
            }
            None => match self.gated.get(&index).and_then(|gate| self.values.get(gate)) {
                Some(gate) => gate.clone(),
                None => return self.operator(call),
            },
        };
        if let Some(output) = call.def.outputs.first() {
            self.values.insert(output, value);
        }
        Ok(())
    }

    /// A layer of convolutional networks where there is one, else an operator on tensors.
    fn operator(&mut self, call: &Call<'a>) -> Outcome<()> {
        let mark = self.draft.steps.len();
        let is_float = call.inputs.iter().flatten().all(|input| input.kind() == Kind::Float);
        let layer = if is_float {
            self.contained(call).and_then(|call| ops::import(self, &call))
        } else {
            unsupported("")
        };
        match layer {
            Ok(tap) => self.results(call, vec![Value::Tap(tap)]),
            Err(Trouble::Unsupported(_)) => {
                self.draft.truncate(mark);
                let results = plain::import(self, call).inspect_err(|_| self.draft.truncate(mark))?;
                self.results(call, results)
            }
            Err(other) => Err(other),
        }
    }

    /// Gives the results of a node their names.
    fn results(&mut self, call: &Call<'a>, results: Vec<Value>) -> Outcome<()> {
        let given = results.len();
        let mut results = results.into_iter();
        for (index, name) in call.def.outputs.iter().enumerate() {
            let result = results.next();
            if name.is_empty() {
                continue;
            }
            match result {
                Some(value) => {
                    self.values.insert(name, value);
                }
                None if self.is_read(name) => {
                    return unsupported(format!("output {index} (from 0), of which {given} are computed"));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn error(&self, def: &NodeDef, trouble: Trouble) -> OnnxError {
        let problem = match trouble {
            Trouble::Onnx(error) => return error,
            Trouble::Wrong(problem) => problem,
            Trouble::Unsupported(why) => {
                format!("expected an operator with a layer (strict), got one without: {why}")
            }
        };
        self.source.error(place(def), problem)
    }
}

/// The reason why shapes are not computed with an operator, and the one why it is no operator on tensors.
fn both(why: String, other: Trouble) -> String {
    match other {
        Trouble::Unsupported(other) | Trouble::Wrong(other) if other != plain::NOT_KNOWN && other != why => {
            format!("{why}; as an operator on tensors: {other}")
        }
        _ => why,
    }
}
