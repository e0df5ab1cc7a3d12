//! The same convolution on NCHW, NHWC and blocked tensors, and into a slice of a wider tensor.

use kernels::*;

const INPUT: Shape4 = Shape4::new(1, 24, 20, 20);

/// Element `(c, y, x)` of the image, in any layout.
fn pixel(c: usize, y: usize, x: usize) -> f32 {
    ((c * 31 + y * 7 + x) % 11) as f32 * 0.1
}

fn main() -> Result<(), ConvError> {
    let shape = FilterShape::new(40, INPUT.c, Size2::square(3));
    let weights: Vec<f32> = (0..shape.elements()?).map(|i| (i % 13) as f32 * 0.01).collect();
    let mut outputs = Vec::new();
    for layout in Layout::ALL {
        // A filter is OIHW in every layout. Nchw16c is the fastest layout for whole networks.
        let filter = Filter::new(shape, Weights::filter(&weights))?;
        let conv = Conv::builder(filter).pad(Pad2::all(1)).layout(layout).build()?;
        let mut image = vec![0.0; INPUT.len(layout)?];
        let mut tensor = TensorMut::packed(&mut image, INPUT, layout)?;
        for (c, y, x) in every(INPUT) {
            let at = tensor.offset(0, c, y, x);
            tensor.data_mut()[at] = pixel(c, y, x);
        }
        let output = conv.run(TensorRef::packed(&image, INPUT, layout)?, Threads::Seq)?;
        let out = TensorRef::packed(&output, Shape4 { c: 40, ..INPUT }, layout)?;
        outputs
            .push(every(out.shape()).map(|(c, y, x)| output[out.offset(0, c, y, x)]).collect::<Vec<f32>>());
        println!("{layout}: {} elements", output.len());
    }
    let differ = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-4 * a.abs().max(1.0));
    assert!(outputs.iter().all(|output| !differ(output, &outputs[0])));

    // An NHWC output can be 40 of the 64 channels of a wider tensor: a branch of a concatenation writes in
    // place.
    let desc =
        ConvDesc::builder(INPUT, 40, Size2::square(3)).pad(Pad2::all(1)).layout(Layout::Nhwc).build()?;
    let plan = ConvPlan::new(&desc, Weights::filter(&weights), &PlanOptions::default())?;
    let image = vec![0.5; INPUT.len(Layout::Nhwc)?];
    let mut wide = vec![-1.0; 20 * 20 * 64];
    let pitch = Pitch { image: 20 * 20 * 64, pixel: 64 };
    let io = ConvIo::new(
        TensorRef::packed(&image, INPUT, Layout::Nhwc)?,
        TensorMut::with_pitch(&mut wide[24..], desc.output(), Layout::Nhwc, pitch)?,
    );
    plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
    assert!(wide.chunks(64).all(|pixel| pixel[..24].iter().all(|&x| x == -1.0) && pixel[24] != -1.0));
    Ok(())
}

/// Every channel, row and column of one image.
fn every(shape: Shape4) -> impl Iterator<Item = (usize, usize, usize)> {
    let Shape4 { c, h, w, .. } = shape;
    (0..c).flat_map(move |c| (0..h).flat_map(move |y| (0..w).map(move |x| (c, y, x))))
}
