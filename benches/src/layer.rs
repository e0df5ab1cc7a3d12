//! One layer, ready to run: data, plan, workspace, and an output that has been checked against the oracle.

use crate::values;
use kernels::{
    Activation, Algorithm, Buffer, ConvDesc, ConvDescBuilder, ConvIo, ConvPlan, EpilogueSpec, PlanOptions,
    TensorMut, TensorRef, Threads, Weights, Workspace,
};

/// A planned layer with its tensors on huge pages.
pub struct Layer {
    /// The plan that runs.
    pub plan: ConvPlan,
    input: Buffer,
    output: Buffer,
    workspace: Workspace,
}

impl Layer {
    /// Plans `builder` with bias and ReLU, runs it once and compares with the reference.
    ///
    /// # Panics
    /// If the layer is not valid, or its output is wrong: a benchmark of wrong numbers is worth nothing.
    pub fn new(builder: ConvDescBuilder, options: &PlanOptions) -> Self {
        let desc = builder.epilogue(EpilogueSpec::bias(Activation::Relu)).build().expect("a valid layer");
        let len = |shape: kernels::Shape4| shape.len(desc.layout()).expect("it fits");
        let (filter, bias) = (values(desc.filter_len(), 2), values(desc.output().c, 3));
        let plan_with = |options: &PlanOptions| {
            ConvPlan::new(&desc, Weights::with_bias(&filter, &bias), options).expect("a valid plan")
        };
        let layer = |plan: ConvPlan| Self {
            input: Buffer::copy_of(&values(len(desc.input()), 1)),
            output: Buffer::copy_of(&vec![f32::NAN; len(desc.output())]),
            workspace: Workspace::for_req(plan.workspace_req()),
            plan,
        };
        let mut ours = layer(plan_with(options));
        let mut oracle = layer(plan_with(&options.force(Algorithm::Reference)));
        ours.run(Threads::Seq);
        oracle.run(Threads::Seq);
        let error = relative_l2(&ours.output, &oracle.output);
        assert!(error < 2e-6, "{desc}: relative L2 error {error}");
        ours
    }

    /// The problem.
    pub fn desc(&self) -> &ConvDesc {
        self.plan.desc()
    }

    /// One run.
    ///
    /// # Panics
    /// Never: the tensors are the plan's.
    pub fn run(&mut self, threads: Threads<'_>) {
        let desc = *self.plan.desc();
        let input = TensorRef::packed(&self.input, desc.input(), desc.layout()).expect("it fits");
        let output = TensorMut::packed(&mut self.output, desc.output(), desc.layout()).expect("it fits");
        self.plan.run(ConvIo::new(input, output), &mut self.workspace, threads).expect("a valid run");
    }
}

/// `|a - b| / |b|`; NaN if any element is.
fn relative_l2(a: &[f32], b: &[f32]) -> f64 {
    let difference = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
    let size = b.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>();
    (difference / size).sqrt()
}
