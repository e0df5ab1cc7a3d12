//! Passes arguments that can be wrong together with a valid descriptor. A call must return an error if and
//! only if an argument is wrong. The output must then be unchanged.
#![no_main]

use arbitrary::{Result, Unstructured};
use kernels::{
    Activation, Algorithm, ConvDesc, ConvIo, ConvPlan, Isa, Layout, Pitch, PlanOptions, Shape4, TensorMut,
    TensorRef, Threads, Weights, Workspace, WorkspaceReq,
};
use kernels_fuzz::common::{ConvProblem, JUNK, pools};
use kernels_fuzz::{any_usize, conv_problem, layout};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::LazyLock;

static POOLS: LazyLock<Vec<kernels_fuzz::common::Pool>> = LazyLock::new(pools);

/// Whether to make an argument wrong. Most draws say no: otherwise almost every input would stop at the first
/// check.
fn wrong(u: &mut Unstructured<'_>) -> Result<bool> {
    u.ratio(1, 12)
}

/// Returns `values`, or too few or too many of them.
fn misuse_values(u: &mut Unstructured<'_>, mut values: Vec<f32>) -> Result<Vec<f32>> {
    if wrong(u)? {
        values.resize(u.int_in_range(0..=2 * values.len() + 1)?, 1.0);
        values.shrink_to_fit();
    }
    Ok(values)
}

/// Returns the operand, possibly with another length, missing, or present although it is not planned.
fn misuse_operand(
    u: &mut Unstructured<'_>,
    values: Option<Vec<f32>>,
    len: usize,
) -> Result<Option<Vec<f32>>> {
    let given = if wrong(u)? { values.is_none().then(|| vec![1.0; len]) } else { values };
    given.map(|values| misuse_values(u, values)).transpose()
}

fn misuse_shape(u: &mut Unstructured<'_>, shape: Shape4) -> Result<Shape4> {
    let Shape4 { n, c, h, w } = shape;
    if !wrong(u)? {
        return Ok(shape);
    }
    let near = |u: &mut Unstructured<'_>, x: usize| Ok(x + 1 - u.int_in_range(0..=x.min(2))?);
    Ok(match u.int_in_range(0..=4u8)? {
        0 => Shape4::new(near(u, n)?, c, h, w),
        1 => Shape4::new(n, near(u, c)?, h, w),
        2 => Shape4::new(n, c, near(u, h)?, w),
        3 => Shape4::new(n, c, h, near(u, w)?),
        _ => Shape4::new(n, c, w, h),
    })
}

fn misuse_layout(u: &mut Unstructured<'_>, planned: Layout) -> Result<Layout> {
    if wrong(u)? { layout(u) } else { Ok(planned) }
}

/// A tensor that is valid, but can have a wrong shape or layout for the plan.
struct Tensor {
    memory: Vec<f32>,
    shape: Shape4,
    layout: Layout,
    pitch: Option<Pitch>,
}

impl Tensor {
    fn new(u: &mut Unstructured<'_>, shape: Shape4, layout: Layout) -> Result<Self> {
        let (shape, layout) = (misuse_shape(u, shape)?, misuse_layout(u, layout)?);
        let memory = vec![JUNK; shape.len(layout).expect("small")];
        let pixel = match layout {
            Layout::Nchw => 1,
            Layout::Nhwc => shape.c,
            _ => 16,
        };
        // Without a second image (or pixel), the pitch can be any number.
        let mut pitch = None;
        if shape.n == 1 && u.arbitrary()? {
            let lone = layout == Layout::Nhwc && shape.h * shape.w == 1;
            let pixel = if lone { any_usize(u)?.max(pixel) } else { pixel };
            pitch = Some(Pitch { image: any_usize(u)?.max(memory.len()), pixel });
        }
        Ok(Self { memory, shape, layout, pitch })
    }

    fn is(&self, shape: Shape4, layout: Layout) -> bool {
        (self.shape, self.layout) == (shape, layout)
    }

    fn borrow(&self) -> TensorRef<'_> {
        match self.pitch {
            None => TensorRef::packed(&self.memory, self.shape, self.layout),
            Some(pitch) => TensorRef::with_pitch(&self.memory, self.shape, self.layout, pitch),
        }
        .expect("a valid tensor")
    }

    fn borrow_mut(&mut self) -> TensorMut<'_> {
        match self.pitch {
            None => TensorMut::packed(&mut self.memory, self.shape, self.layout),
            Some(pitch) => TensorMut::with_pitch(&mut self.memory, self.shape, self.layout, pitch),
        }
        .expect("a valid tensor")
    }

    /// Checks that a buffer of another length is refused.
    fn misuse_memory(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let len = u.int_in_range(0..=self.memory.len() * 2)?;
        let packed = TensorRef::packed(&vec![0.0; len], self.shape, self.layout).is_ok();
        assert_eq!(packed, len == self.memory.len());
        if let Some(pitch) = self.pitch {
            let pitched = TensorRef::with_pitch(&vec![0.0; len], self.shape, self.layout, pitch).is_ok();
            assert_eq!(pitched, len >= self.memory.len());
        }
        Ok(())
    }
}

fn plan(u: &mut Unstructured<'_>, problem: &ConvProblem, desc: &ConvDesc) -> Result<Option<ConvPlan>> {
    let data = problem.data();
    let filter = misuse_values(u, data.filter)?;
    let bias = misuse_operand(u, data.bias, problem.out_channels)?;
    let slope = misuse_operand(u, data.slope, problem.out_channels)?;
    let algorithm = *u.choose(&Algorithm::ALL)?;
    let isa = *u.choose(&[Isa::Portable, Isa::Neon, Isa::Avx2Fma, Isa::Avx512F])?;
    let mut options = PlanOptions::default().force(algorithm).isa(isa).max_threads(3).macs_per_thread(1);
    if wrong(u)? {
        options = options.max_threads(any_usize(u)?);
    }
    if wrong(u)? {
        options = options.macs_per_thread(any_usize(u)? as u64);
    }
    let is = |given: &Option<Vec<f32>>, planned: bool| {
        given.as_ref().map(Vec::len) == planned.then_some(problem.out_channels)
    };
    let right = filter.len() == desc.filter_len()
        && is(&bias, desc.epilogue().bias)
        && is(&slope, desc.epilogue().activation == Activation::PRelu)
        && options.max_threads > 0
        && options.macs_per_thread > 0
        && Isa::available().any(|there| there == isa)
        && algorithm.supports(desc).is_ok();
    let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: slope.as_deref() };
    match ConvPlan::new(desc, weights, &options) {
        Ok(plan) => {
            assert!(right, "planned with wrong arguments");
            assert!(!plan.explain().to_string().is_empty());
            Ok(Some(plan))
        }
        Err(error) => {
            // Correct arguments can fail only because the workspace is too large for so many threads.
            assert!(!right || options.max_threads > 1 << 30, "{error}");
            assert!(!error.to_string().is_empty());
            Ok(None)
        }
    }
}

fn misuse(u: &mut Unstructured<'_>) -> Result<()> {
    let mut problem = conv_problem(u)?;
    problem.slack = 0;
    let desc = problem.desc().expect("a generated problem is valid");
    let Some(plan) = plan(u, &problem, &desc)? else { return Ok(()) };
    let (layout, shape) = (desc.layout(), desc.output());
    let output_layout = desc.output_layout();

    let mut input = Tensor::new(u, desc.input(), layout)?;
    input.memory.fill(0.5);
    let mut output = Tensor::new(u, shape, output_layout)?;
    let planned = desc.epilogue().residual;
    let residual = if planned != wrong(u)? { Some(Tensor::new(u, shape, output_layout)?) } else { None };
    let residual = residual.map(|mut r| {
        r.memory.fill(0.25);
        r
    });
    let req = plan.workspace_req();
    if req.per_thread_len.saturating_mul(req.threads) > 1 << 22 {
        return Ok(()); // the workspace for so many threads is too large for a fuzzer
    }
    let given = if wrong(u)? { u.int_in_range(0..=req.len())? } else { req.len() };
    let mut workspace = Workspace::for_req(WorkspaceReq::new(given, 1)).unwrap();
    workspace.as_mut_slice().fill(JUNK);
    let threads = match u.int_in_range(0..=POOLS.len())? {
        0 => Threads::Seq,
        pool => POOLS[pool - 1].threads(),
    };
    let right = input.is(desc.input(), layout)
        && output.is(shape, output_layout)
        && planned == residual.is_some()
        && residual.as_ref().is_none_or(|r| r.is(shape, output_layout))
        && given == req.len();
    for tensor in [&input, &output].into_iter().chain(&residual) {
        tensor.misuse_memory(u)?;
    }

    let io = ConvIo {
        input: input.borrow(),
        output: output.borrow_mut().into(),
        residual: residual.as_ref().map(Tensor::borrow),
    };
    let result = plan.run(io, &mut workspace, threads);
    assert_eq!(result.is_ok(), right, "{result:?}");
    let junk = |value: &f32| value.to_bits() == JUNK.to_bits();
    match result {
        Ok(()) => assert!(!output.memory.iter().any(junk), "an element was not written"),
        Err(error) => {
            assert!(output.memory.iter().all(junk), "written in spite of: {error}");
            assert!(!error.to_string().is_empty());
        }
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match misuse(&mut Unstructured::new(bytes)) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});
