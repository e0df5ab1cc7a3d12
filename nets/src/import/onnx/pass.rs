//! One pass over the nodes of a model. Each becomes a constant, a layer, or a warning.

use super::importer::Importer;
use super::node::{Call, Outcome, Trouble, unsupported};
use super::ops;
use super::order::{label, place};
use super::proto::NodeDef;
use super::value::Value;
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
        let Some(output) = call.def.outputs.first().filter(|name| !name.is_empty()) else {
            return unsupported("no output that could be read");
        };
        let unknown = call.inputs.iter().flatten().find_map(|input| match input {
            Value::Unknown(unknown) => Some(unknown.reason()),
            _ => None,
        });
        if let Some(reason) = unknown {
            return unsupported(reason);
        }
        let standard = matches!(call.def.domain.as_str(), "" | "ai.onnx");
        let folded = if standard { self.folder.fold(call)? } else { None };
        let value = match folded {
            Some(constant) => {
                self.only_first(call, "a second result")?;
                Value::Constant(constant)
            }
            None => match self.gated.get(&index).and_then(|gate| self.values.get(gate)) {
                Some(gate) => gate.clone(),
                None => Value::Tap(ops::import(self, call)?),
            },
        };
        self.values.insert(output, value);
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
