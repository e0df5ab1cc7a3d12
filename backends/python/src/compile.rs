//! Compiles the layers of a program for the shapes of its inputs: plans, layouts and buffers.

use crate::cache::Key;
use crate::compiled::{Compiled, Operation, Value, What};
use crate::program::{Kind, Layer, Pool};
use crate::slots::Slots;
use kernels::{Activation, BLOCK, ConvError, ConvPlan, Layout, Ops, PoolDesc, Shape4, WorkspaceReq};
use std::sync::Mutex;

/// What a compiled program depends on: shape and layout of every input, and the number of threads.
#[derive(Debug, PartialEq)]
pub(crate) struct Inputs {
    pub(crate) values: Vec<(Shape4, Layout)>,
    pub(crate) threads: usize,
}

/// Plans every layer for the inputs: in blocks of 16 channels, or in NCHW if many lanes of the blocks were empty or if
/// a layer does not work on blocks.
///
/// # Errors
/// The errors of the layers, if the shapes do not fit.
pub(crate) fn compile(layers: &[Layer], outputs: &[usize], inputs: &Inputs) -> Result<Compiled, ConvError> {
    let mut compiler = Compiler {
        layout: Layout::Nchw16c,
        threads: inputs.threads,
        values: inputs.values.iter().map(|&(shape, layout)| Value { shape, layout, slot: None }).collect(),
        inputs: inputs.values.len(),
        copies: vec![None; inputs.values.len()],
        results: (0..inputs.values.len()).collect(),
        operations: Vec::new(),
        workspace: WorkspaceReq::default(),
        products: Products::default(),
    };
    let begin = compiler.clone_inputs();
    let blocks = layers.iter().try_for_each(|layer| compiler.add(layer));
    if blocks.is_ok() && compiler.products.few_are_empty() {
        return compiler.finish(outputs);
    }
    compiler = Compiler { layout: Layout::Nchw, ..begin };
    layers.iter().try_for_each(|layer| compiler.add(layer))?;
    compiler.finish(outputs)
}

struct Compiler {
    /// The layout of everything between the layers.
    layout: Layout,
    threads: usize,
    values: Vec<Value>,
    inputs: usize,
    /// The input of the program in `layout`, once a layer needed it.
    copies: Vec<Option<usize>>,
    /// For each value of the program, the value here.
    results: Vec<usize>,
    operations: Vec<Operation>,
    workspace: WorkspaceReq,
    products: Products,
}

impl Compiler {
    fn clone_inputs(&self) -> Self {
        Self {
            values: self.values.clone(),
            copies: self.copies.clone(),
            results: self.results.clone(),
            operations: Vec::new(),
            products: Products::default(),
            ..*self
        }
    }

    fn add(&mut self, layer: &Layer) -> Result<(), ConvError> {
        let result = match &layer.kind {
            Kind::Conv(plan) => {
                let plan = plan.get();
                let x = self.input_of_conv(layer.inputs[0])?;
                let residual = layer.inputs.get(1).map(|&value| self.inner(value)).transpose()?;
                let key = Key {
                    input: self.values[x].shape,
                    layout: self.values[x].layout,
                    output_layout: self.layout,
                    residual: residual.is_some(),
                    threads: self.threads,
                };
                let conv = plan.plan(key)?;
                self.workspace = self.workspace.union(conv.workspace_req());
                self.products.add(&conv, x < self.inputs);
                let shape = conv.desc().output();
                if let Some(got) = residual.map(|value| self.values[value].shape).filter(|&got| got != shape)
                {
                    return Err(ConvError::ShapeMismatch { what: "residual", expected: shape, got });
                }
                self.push(What::Conv(conv), [Some(x), residual].into_iter().flatten().collect(), shape)
            }
            Kind::Pool(pool) => {
                let x = self.inner(layer.inputs[0])?;
                let desc = pool.describe(self.values[x].shape, self.layout)?;
                self.push(What::Pool(Box::new(desc)), vec![x], desc.output())
            }
            Kind::Add(activation) => {
                let reads = self.all_inner(&layer.inputs)?;
                let [x, y] = [reads[0], reads[1]].map(|value| self.values[value].shape);
                if x != y {
                    return Err(ConvError::ShapeMismatch { what: "y", expected: x, got: y });
                }
                self.push(What::Sum(*activation), reads, x)
            }
            Kind::Activate(activation) => {
                let x = self.inner(layer.inputs[0])?;
                self.push(What::Sum(*activation), vec![x], self.values[x].shape)
            }
            Kind::Concat => {
                let reads = self.all_inner(&layer.inputs)?;
                let shape = self.concatenated(&reads)?;
                self.push(What::Concat, reads, shape)
            }
        };
        self.results.push(result);
        Ok(())
    }

    fn push(&mut self, what: What, reads: Vec<usize>, shape: Shape4) -> usize {
        let writes = self.values.len();
        self.values.push(Value { shape, layout: self.layout, slot: None });
        self.operations.push(Operation { what, reads, writes });
        writes
    }

    /// The first layers read the inputs in any layout: the convolution writes `layout` without a further pass.
    fn input_of_conv(&mut self, value: usize) -> Result<usize, ConvError> {
        let here = self.results[value];
        let direct = self.layout == Layout::Nchw16c || self.values[here].layout == self.layout;
        if direct { Ok(here) } else { self.inner(value) }
    }

    /// The value in `layout`.
    fn inner(&mut self, value: usize) -> Result<usize, ConvError> {
        let here = self.results[value];
        let Value { shape, layout, .. } = self.values[here];
        if layout == self.layout {
            return Ok(here);
        }
        if let Some(copy) = self.copies[here] {
            return Ok(copy);
        }
        shape.len(self.layout)?;
        let copy = self.push(What::Sum(Activation::None), vec![here], shape);
        self.copies[here] = Some(copy);
        Ok(copy)
    }

    fn all_inner(&mut self, values: &[usize]) -> Result<Vec<usize>, ConvError> {
        values.iter().map(|&value| self.inner(value)).collect()
    }

    /// The shape of the concatenation. Blocks can be concatenated if all but the last are full.
    fn concatenated(&self, reads: &[usize]) -> Result<Shape4, ConvError> {
        let mut all = self.values[reads[0]].shape;
        for &value in &reads[1..] {
            let shape = self.values[value].shape;
            let expected = Shape4 { c: shape.c, ..all };
            if shape != expected {
                return Err(ConvError::ShapeMismatch { what: "concatenation", expected, got: shape });
            }
            if self.layout == Layout::Nchw16c && !all.c.is_multiple_of(BLOCK) {
                let expected = "a multiple of 16 before the last tensor".to_owned();
                let got = all.c.to_string();
                return Err(ConvError::InvalidField { field: "concatenation.c", expected, got });
            }
            all.c = all.c.saturating_add(shape.c);
        }
        all.len(self.layout)?;
        Ok(all)
    }

    fn finish(self, outputs: &[usize]) -> Result<Compiled, ConvError> {
        let Self { mut values, operations, results, workspace, products, .. } = self;
        let outputs: Vec<usize> = outputs.iter().map(|&output| results[output]).collect();
        let mut slots = Slots::default();
        let mut last_reads = vec![None; values.len()];
        for (index, operation) in operations.iter().enumerate() {
            operation.reads.iter().for_each(|&value| last_reads[value] = Some(index));
        }
        for (index, operation) in operations.iter().enumerate() {
            let value = &mut values[operation.writes];
            value.slot = Some(slots.take(value.shape.len(value.layout)?));
            for &read in &operation.reads {
                if let Some(slot) =
                    values[read].slot.filter(|_| last_reads[read] == Some(index) && !outputs.contains(&read))
                {
                    slots.free(slot);
                }
            }
        }
        let macs = u64::try_from(products.real).unwrap_or(u64::MAX);
        Ok(Compiled {
            ops: Ops::new(None)?,
            values,
            operations,
            outputs,
            slots: slots.lens(),
            workspace,
            macs,
            idle: Mutex::default(),
        })
    }
}

impl Pool {
    /// The pooling of inputs of this shape.
    pub(crate) fn describe(&self, input: Shape4, layout: Layout) -> Result<PoolDesc, ConvError> {
        let Some(window) = self.window else { return PoolDesc::global(input, self.kind, layout) };
        PoolDesc::builder(input, window, self.kind)
            .stride(self.steps.stride())
            .pad(self.steps.pad())
            .dilation(self.steps.dilation())
            .ceil_mode(self.ceil_mode)
            .layout(layout)
            .build()
    }
}

/// Products of all convolutions, without and with the empty lanes of blocks.
#[derive(Default)]
struct Products {
    real: u128,
    padded: u128,
}

impl Products {
    fn add(&mut self, conv: &ConvPlan, reads_input: bool) {
        let desc = conv.desc();
        let (input, output) = (desc.input(), desc.output());
        let macs = (desc.filter_len() as u128) * (output.n * output.h * output.w) as u128;
        let mut padded = macs * output.c.next_multiple_of(BLOCK) as u128 / output.c as u128;
        if !reads_input && desc.groups() != input.c {
            padded = padded * input.c.next_multiple_of(BLOCK) as u128 / input.c as u128;
        }
        self.real = self.real.saturating_add(macs);
        self.padded = self.padded.saturating_add(padded);
    }

    /// Whether blocks add at most a quarter to the products, the rule of `nets`.
    fn few_are_empty(&self) -> bool {
        self.padded.saturating_mul(4) <= self.real.saturating_mul(5)
    }
}
