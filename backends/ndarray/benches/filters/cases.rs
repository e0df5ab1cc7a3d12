//! Kernels, an image, and the right outputs.

use ndarray::{Array1, Array2};

/// A kernel of odd size whose sum is 1.
pub struct Case {
    pub name: String,
    pub kernel: Array2<f32>,
    /// The factor of a kernel that is the outer product of one vector with itself.
    pub factor: Option<Vec<f32>>,
    /// Standard deviation of a Gaussian.
    pub sigma: Option<f32>,
}

pub fn all() -> Vec<Case> {
    vec![
        dense("3x3", 3),
        gaussian(3, 0.8),
        dense("5x5", 5),
        gaussian(5, 1.1),
        dense("15x15", 15),
        gaussian(15, 2.6),
        gaussian(61, 10.0),
        disc(61),
    ]
}

/// Without any structure.
fn dense(name: &str, side: usize) -> Case {
    let kernel = numbers((side, side), 3);
    let sum = kernel.sum();
    Case { name: format!("{name} dense"), kernel: kernel / sum, factor: None, sigma: None }
}

fn gaussian(side: usize, sigma: f32) -> Case {
    let middle = (side / 2) as f32;
    let factor = Array1::from_shape_fn(side, |x| (-((x as f32 - middle) / sigma).powi(2) / 2.0).exp());
    let factor = &factor / factor.sum();
    let kernel = Array2::from_shape_fn((side, side), |(y, x)| factor[y] * factor[x]);
    Case {
        name: format!("{side}x{side} Gaussian"),
        kernel,
        factor: Some(factor.to_vec()),
        sigma: Some(sigma),
    }
}

fn disc(side: usize) -> Case {
    let middle = (side / 2) as f32;
    let inside = |(y, x): (usize, usize)| (y as f32 - middle).hypot(x as f32 - middle) <= middle + 0.5;
    let kernel = Array2::from_shape_fn((side, side), |at| f32::from(u8::from(inside(at))));
    let sum = kernel.sum();
    Case { name: format!("{side}x{side} disc"), kernel: kernel / sum, factor: None, sigma: None }
}

/// Numbers between 0 and 1 without any structure.
fn numbers(shape: (usize, usize), seed: u64) -> Array2<f32> {
    let mut state = seed;
    Array2::from_shape_simple_fn(shape, || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    })
}

pub fn image(size: (usize, usize)) -> Array2<f32> {
    numbers(size, 7)
}

/// Right outputs at some places, with the outermost pixels repeated outside of the image.
pub struct Reference {
    places: Vec<((usize, usize), f64)>,
    size: (usize, usize),
    /// Width of the border whose outputs read outside of the image.
    border: (usize, usize),
}

impl Reference {
    pub fn new(image: &Array2<f32>, case: &Case) -> Self {
        let (h, w) = image.dim();
        let (kh, kw) = case.kernel.dim();
        let corners = [(0, 0), (0, w - 1), (h - 1, 0), (h - 1, w - 1), (h / 2, 0), (0, w / 2)];
        let inside = (0..2000).map(|n| (n * 7919 % h, n * 104_729 % w));
        let value = |(y, x): (usize, usize)| {
            let products = case.kernel.indexed_iter().map(|((j, i), &weight)| {
                let row = (y + j).saturating_sub(kh / 2).min(h - 1);
                let column = (x + i).saturating_sub(kw / 2).min(w - 1);
                f64::from(weight) * f64::from(image[(row, column)])
            });
            products.sum::<f64>()
        };
        let places = corners.into_iter().chain(inside).map(|at| (at, value(at))).collect();
        Self { places, size: (h, w), border: (kh / 2, kw / 2) }
    }

    /// Relative L2 error of an output.
    pub fn error(&self, output: &Array2<f32>, interior_only: bool) -> f64 {
        let (mut difference, mut magnitude) = (0.0, 0.0);
        for &((y, x), value) in &self.places {
            let inside =
                |at: usize, border: usize, len: usize| (border..len.saturating_sub(border)).contains(&at);
            let interior = inside(y, self.border.0, self.size.0) && inside(x, self.border.1, self.size.1);
            if interior || !interior_only {
                difference += (f64::from(output[(y, x)]) - value).powi(2);
                magnitude += value.powi(2);
            }
        }
        // An output that is not a number is as wrong as can be.
        let error = (difference / magnitude).sqrt();
        if error.is_nan() { f64::INFINITY } else { error }
    }
}
