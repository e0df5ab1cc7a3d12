//! The C interface computes the bits of the Rust interface, and a callback that panics does no harm.

use convkernels::*;
use kernels::{
    Activation, Algorithm, ConvDesc, ConvIo, ConvPlan, EpilogueSpec, Layout, Method, Numerics, Pad2,
};
use kernels::{PlanOptions, Products, Shape4, Size2, TensorMut, TensorRef, Threads, Weights, Workspace};
use std::ffi::{CStr, c_void};
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::thread;

/// Deterministic numbers between -1 and 1.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A convolution in both interfaces.
struct Problem {
    c: ck_conv_desc,
    rust: ConvDesc,
    options: PlanOptions,
}

const ACTIVATIONS: [(ck_activation, Activation); 10] = [
    (ck_activation::None, Activation::None),
    (ck_activation::Relu, Activation::Relu),
    (ck_activation::LeakyRelu, Activation::LeakyRelu { alpha: 0.25 }),
    (ck_activation::Clip, Activation::Clip { lo: -0.5, hi: 0.75 }),
    (ck_activation::Sigmoid, Activation::Sigmoid),
    (ck_activation::Tanh, Activation::Tanh),
    (ck_activation::Elu, Activation::Elu { alpha: 0.25 }),
    (ck_activation::Prelu, Activation::PRelu),
    (ck_activation::HardSwish, Activation::HardSwish),
    (ck_activation::Silu, Activation::Silu),
];

const LAYOUTS: [(ck_layout, Layout); 3] =
    [(ck_layout::Nchw, Layout::Nchw), (ck_layout::Nhwc, Layout::Nhwc), (ck_layout::Nchw16c, Layout::Nchw16c)];

fn checked(status: ck_status, error: &ck_error) {
    // SAFETY: the message ends with a null byte.
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) };
    assert_eq!(status, ck_status::Success, "{message:?}");
}

fn no_error() -> ck_error {
    ck_error { status: ck_status::Internal, message: [0; CK_ERROR_MESSAGE_SIZE] }
}

impl Problem {
    /// Every field differs from its neighbours, so that a mix-up shows.
    fn new(activation: (ck_activation, Activation), layout: (ck_layout, Layout), groups: usize) -> Self {
        let mut desc = MaybeUninit::uninit();
        let mut error = no_error();
        // SAFETY: all pointers are valid, and the call initialises the descriptor.
        let mut c = unsafe {
            checked(ck_conv_desc_init(desc.as_mut_ptr(), size_of::<ck_conv_desc>(), &mut error), &error);
            desc.assume_init()
        };
        (c.batch, c.channels, c.height, c.width) = (2, 32, 13, 17);
        (c.out_channels, c.kernel_h, c.kernel_w) = (64, 3, 5);
        (c.stride_h, c.stride_w, c.dilation_h, c.dilation_w) = (1, 2, 2, 1);
        (c.pad_top, c.pad_bottom, c.pad_left, c.pad_right) = (1, 2, 3, 0);
        (c.groups, c.has_bias, c.has_residual, c.max_threads) = (groups, 1, 1, 3);
        (c.layout, c.activation) = (layout.0 as u32, activation.0 as u32);
        (c.activation_alpha, c.activation_lo, c.activation_hi) = (0.25, -0.5, 0.75);
        let rust = ConvDesc::builder(Shape4::new(2, 32, 13, 17), 64, Size2::new(3, 5))
            .stride(Size2::new(1, 2))
            .dilation(Size2::new(2, 1))
            .pad(Pad2 { top: 1, bottom: 2, left: 3, right: 0 })
            .groups(groups)
            .layout(layout.1)
            .epilogue(EpilogueSpec { bias: true, residual: true, activation: activation.1 })
            .build()
            .unwrap();
        Self { c, rust, options: PlanOptions::default().max_threads(3) }
    }

    fn weights(&self) -> [Vec<f32>; 3] {
        [noise(self.rust.filter_len()), noise(64), noise(64)]
    }

    fn has_slope(&self) -> bool {
        self.rust.epilogue().activation == Activation::PRelu
    }

    fn input(&self) -> Vec<f32> {
        noise(self.rust.input().len(self.rust.layout()).unwrap())
    }

    fn residual(&self) -> Vec<f32> {
        noise(self.rust.output().len(self.rust.output_layout()).unwrap())
    }

    fn rust_plan(&self) -> ConvPlan {
        let [filter, bias, slope] = self.weights();
        let weights =
            Weights { filter: &filter, bias: Some(&bias), slope: self.has_slope().then_some(&slope[..]) };
        ConvPlan::new(&self.rust, weights, &self.options).unwrap()
    }

    fn run_rust(&self) -> Vec<f32> {
        let (plan, desc) = (self.rust_plan(), &self.rust);
        let (input, residual) = (self.input(), self.residual());
        let mut output = vec![f32::NAN; residual.len()];
        let io = ConvIo::new(
            TensorRef::packed(&input, desc.input(), desc.layout()).unwrap(),
            TensorMut::packed(&mut output, desc.output(), desc.layout()).unwrap(),
        )
        .residual(TensorRef::packed(&residual, desc.output(), desc.layout()).unwrap());
        let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
        plan.run(io, &mut workspace, Threads::Seq).unwrap();
        output
    }

    fn plan(&self) -> *mut ck_plan {
        let ([filter, bias, slope], mut error) = (self.weights(), no_error());
        let (slope, slope_len) =
            if self.has_slope() { (slope.as_ptr(), slope.len()) } else { (ptr::null(), 0) };
        let weights = ck_weights {
            filter: filter.as_ptr(),
            filter_len: filter.len(),
            bias: bias.as_ptr(),
            bias_len: bias.len(),
            slope,
            slope_len,
        };
        let mut plan = ptr::null_mut();
        // SAFETY: all pointers are valid. The handles are destroyed once.
        unsafe {
            let mut packed = ptr::null_mut();
            checked(ck_filter_create(&self.c, &weights, &mut packed, &mut error), &error);
            checked(ck_plan_create(&self.c, packed, &mut plan, &mut error), &error);
            ck_filter_destroy(packed);
        }
        plan
    }

    /// Runs `plan` on `threads` in memory that is not initialised.
    fn run_c(&self, plan: *mut ck_plan, threads: *const ck_threads, error: &mut ck_error) -> Vec<f32> {
        let (input, residual) = (self.input(), self.residual());
        let mut output = vec![f32::NAN; residual.len()];
        // SAFETY: all pointers are valid. Null pointers and zeros are valid in these structs.
        unsafe {
            let mut io: ck_io = zeroed();
            (io.input.data, io.input.len) = (input.as_ptr(), input.len());
            (io.output.data, io.output.len) = (output.as_mut_ptr(), output.len());
            (io.residual.data, io.residual.len) = (residual.as_ptr(), residual.len());
            let bytes = ck_plan_workspace_size(plan);
            let mut workspace = vec![f32::NAN; bytes / size_of::<f32>()];
            ck_plan_run(plan, &io, workspace.as_mut_ptr().cast(), bytes, threads, error);
        }
        output
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// New threads for every run.
unsafe extern "C-unwind" fn on_new_threads(_: *mut c_void, parts: usize, part: ck_part, task: *mut c_void) {
    let task = task.expose_provenance();
    thread::scope(|scope| {
        for index in 0..parts {
            // SAFETY: the scope ends after all calls.
            scope.spawn(move || unsafe { part(ptr::with_exposed_provenance_mut(task), index) });
        }
    });
}

#[test]
fn both_interfaces_compute_the_same_bits() {
    let on_threads = ck_threads {
        threads: 3,
        parallelize: Some(on_new_threads),
        context: ptr::null_mut(),
        pool: ptr::null(),
    };
    for activation in ACTIVATIONS {
        for layout in LAYOUTS {
            for groups in [1, 32] {
                let problem = Problem::new(activation, layout, groups);
                let expected = bits(&problem.run_rust());
                let (plan, mut error) = (problem.plan(), no_error());
                for threads in [ptr::null(), &raw const on_threads] {
                    let output = problem.run_c(plan, threads, &mut error);
                    checked(error.status, &error);
                    assert!(bits(&output) == expected, "{:?}, {layout:?}, {groups} groups", activation.1);
                }
                // SAFETY: the plan is not used again.
                unsafe { ck_plan_destroy(plan) };
            }
        }
    }
}

const PRODUCTS: [(ck_products, Products); 4] = [
    (ck_products::F32, Products::F32),
    (ck_products::Bf16x6, Products::Bf16x6),
    (ck_products::Bf16x3, Products::Bf16x3),
    (ck_products::Bf16, Products::Bf16),
];

#[test]
fn a_forced_algorithm_has_the_products_of_the_descriptor() {
    let mut outputs = Vec::new();
    for (number, products) in PRODUCTS {
        let mut problem = Problem::new(ACTIVATIONS[0], LAYOUTS[0], 1);
        problem.options = problem.options.force(Method::new(Algorithm::Im2colGemm, products));
        (problem.c.algorithm, problem.c.products) = (ck_algorithm::Im2colGemm as u32, number as u32);
        let (plan, mut error) = (problem.plan(), no_error());
        let output = bits(&problem.run_c(plan, ptr::null(), &mut error));
        checked(error.status, &error);
        assert!(output == bits(&problem.run_rust()), "{products}");
        assert!(!outputs.contains(&output), "{products}: other products compute the same");
        outputs.push(output);
        // SAFETY: the plan is not used again.
        unsafe {
            assert_eq!(ck_plan_products(plan), number);
            ck_plan_destroy(plan);
        }
    }
}

#[test]
fn the_choice_has_the_products_of_the_descriptor() {
    for only in [None, Some(PRODUCTS[0])] {
        let mut problem = Problem::new(ACTIVATIONS[0], LAYOUTS[0], 1);
        problem.c.numerics = ck_numerics::Bf16 as u32;
        problem.options = problem.options.numerics(Numerics::Bf16);
        if let Some((number, products)) = only {
            problem.c.products = number as u32;
            for other in Products::ALL.into_iter().filter(|&other| other != products) {
                problem.options = problem.options.forbid_products(other);
            }
        }
        let chosen = problem.rust_plan().products();
        assert!(only.is_none_or(|(_, products)| products == chosen), "{only:?}: {chosen}");
        let plan = problem.plan();
        // SAFETY: the plan is not used again.
        unsafe {
            let expected = PRODUCTS.iter().find(|(_, products)| *products == chosen);
            assert_eq!(Some(ck_plan_products(plan)), expected.map(|&(number, _)| number), "{only:?}");
            ck_plan_destroy(plan);
        }
    }
}

unsafe extern "C-unwind" fn panics(_: *mut c_void, _: usize, part: ck_part, task: *mut c_void) {
    // SAFETY: the task is the one that came with the part.
    unsafe { part(task, 0) };
    panic!("the caller's own bug");
}

#[test]
fn a_callback_that_panics_becomes_an_internal_error() {
    let mut threads =
        ck_threads { threads: 3, parallelize: Some(panics), context: ptr::null_mut(), pool: ptr::null() };
    let problem = Problem::new(ACTIVATIONS[1], LAYOUTS[0], 1);
    let (plan, mut error) = (problem.plan(), no_error());
    problem.run_c(plan, &threads, &mut error);
    assert_eq!(error.status, ck_status::Internal);
    // SAFETY: the message ends with a null byte.
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) };
    assert_eq!(message, c"internal error: the caller's own bug");
    // The plan is as good as before.
    threads.parallelize = Some(on_new_threads);
    let output = problem.run_c(plan, &threads, &mut error);
    checked(error.status, &error);
    assert!(bits(&output) == bits(&problem.run_rust()));
    // SAFETY: the plan is not used again.
    unsafe { ck_plan_destroy(plan) };
}
