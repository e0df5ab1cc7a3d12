//! Linear layers, against the definition in `f64`.

use crate::{Noise, UNIT, UNWRITTEN, three_threads};
use kernels::{
    Activation, Algorithm, ConvError, EpilogueSpec, Isa, LinearPlan, PlanOptions, Threads, Weights, Workspace,
};

struct Problem {
    batch: usize,
    ins: usize,
    outs: usize,
    epilogue: EpilogueSpec,
    x: Vec<f32>,
    filter: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Problem {
    fn new(batch: usize, ins: usize, outs: usize, epilogue: EpilogueSpec) -> Self {
        let mut noise = Noise::new((batch * 31 + ins * 7 + outs) as u64);
        let (x, filter) = (noise.vec(batch * ins), noise.vec(outs * ins));
        let (bias, residual) = (noise.vec(outs), noise.vec(batch * outs));
        Self { batch, ins, outs, epilogue, x, filter, bias, residual }
    }

    fn weights(&self) -> Weights<'_> {
        let bias = self.epilogue.bias.then_some(&self.bias[..]);
        let slope = (self.epilogue.activation == Activation::PRelu).then_some(&self.bias[..]);
        Weights { filter: &self.filter, bias, slope }
    }

    fn plan(&self, options: &PlanOptions) -> LinearPlan {
        LinearPlan::new(self.batch, self.ins, self.outs, self.epilogue, self.weights(), options).unwrap()
    }

    fn run(&self, plan: &LinearPlan, threads: Threads<'_>) -> Vec<f32> {
        let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
        workspace.as_mut_slice().fill(f32::NAN);
        let mut y = vec![UNWRITTEN; self.batch * self.outs];
        let residual = self.epilogue.residual.then_some(&self.residual[..]);
        plan.run(&self.x, &mut y, residual, &mut workspace, threads).unwrap();
        y
    }

    fn check(&self, y: &[f32]) {
        for (i, &got) in y.iter().enumerate() {
            let (b, o) = (i / self.outs, i % self.outs);
            let row = &self.x[b * self.ins..][..self.ins];
            let products =
                row.iter().zip(&self.filter[o * self.ins..]).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let (mut sum, mut magnitude) = products.fold((0.0, 0.0), |(s, m), p| (s + p, m + p.abs()));
            if self.epilogue.bias {
                sum += f64::from(self.bias[o]);
                magnitude += f64::from(self.bias[o]).abs();
            }
            if self.epilogue.residual {
                sum += f64::from(self.residual[i]);
                magnitude += f64::from(self.residual[i]).abs();
            }
            let want = self.epilogue.activation.eval(sum, f64::from(self.bias[o]));
            // One rounding per product and per sum without FMA, and one each for bias, residual and activation.
            let bound = (2.0 * self.ins as f64 + 6.0) * UNIT * magnitude;
            assert!((f64::from(got) - want).abs() <= bound, "({b}, {o}): {want}, got {got}, bound {bound:e}");
        }
    }
}

#[test]
fn linear_layers_agree() {
    let pool = three_threads();
    let plain = EpilogueSpec::NONE;
    let relu = EpilogueSpec::bias(Activation::Relu);
    let full = EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu };
    for (batch, ins, outs, epilogue) in [
        (1, 1, 1, plain),
        (1, 784, 300, relu),
        (1, 1000, 1000, full),
        (2, 33, 129, relu),
        (3, 17, 15, full),
        (15, 64, 65, relu),
        (64, 300, 100, full),
    ] {
        let problem = Problem::new(batch, ins, outs, epilogue);
        for isa in Isa::available() {
            let plan = problem.plan(&PlanOptions::default().isa(isa).max_threads(3));
            assert_eq!(plan.conv().algorithm(), Algorithm::Pointwise);
            let one = problem.run(&plan, Threads::Seq);
            problem.check(&one);
            let three = problem.run(&plan, Threads::Pool(&pool));
            assert!(one == three, "{isa}: the bits depend on the threads");
        }
    }
}

#[test]
fn zero_sizes_are_errors() {
    for (sizes, name) in [((0, 1, 1), "batch"), ((1, 0, 1), "in_features"), ((1, 1, 0), "out_features")] {
        let (none, options) = (EpilogueSpec::NONE, PlanOptions::default());
        match LinearPlan::new(sizes.0, sizes.1, sizes.2, none, Weights::filter(&[]), &options) {
            Err(ConvError::InvalidField { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {:?}", other.err()),
        }
    }
}

#[test]
fn weights_of_another_size_are_errors() {
    let new = |weights| LinearPlan::new(1, 3, 2, EpilogueSpec::NONE, weights, &PlanOptions::default()).err();
    let expected = ConvError::BufferLen { what: "filter", expected: 6, got: 5 };
    assert_eq!(new(Weights::filter(&[0.0; 5])), Some(expected));
    let expected = ConvError::EpilogueMismatch { what: "bias", planned: false };
    assert_eq!(new(Weights::with_bias(&[0.0; 6], &[0.0; 2])), Some(expected));
}

#[test]
fn operands_of_another_size_are_errors() {
    let problem = Problem::new(2, 3, 4, EpilogueSpec { residual: true, ..EpilogueSpec::NONE });
    let plan = problem.plan(&PlanOptions::default());
    let run = |x: usize, y: usize, residual: Option<usize>| {
        let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
        let residual = residual.map(|len| vec![0.0; len]);
        let mut output = vec![UNWRITTEN; y];
        let result = plan.run(&vec![0.0; x], &mut output, residual.as_deref(), &mut workspace, Threads::Seq);
        assert!(result.is_ok() || output.iter().all(|x| x.is_nan()), "the output was touched");
        result.err()
    };
    let len = |what, expected, got| Some(ConvError::BufferLen { what, expected, got });
    assert_eq!(run(6, 8, Some(8)), None);
    assert_eq!(run(5, 8, Some(8)), len("input", 6, 5));
    assert_eq!(run(6, 9, Some(8)), len("output", 8, 9));
    assert_eq!(run(6, 8, Some(7)), len("residual", 8, 7));
    assert_eq!(run(6, 8, None), Some(ConvError::EpilogueMismatch { what: "residual", planned: true }));
}
