//! One layer for inputs of any batch and image size. The weights are packed once, and plans are cached.

use kernels::*;
use std::time::Instant;

fn main() -> Result<(), ConvError> {
    let shape = FilterShape::new(64, 32, Size2::square(3));
    let filter = Filter::from_vecs(shape, vec![0.01; shape.elements()?], Some(vec![0.5; 64]), None)?;
    let conv = Conv::builder(filter).pad(Pad2::all(1)).activation(Activation::Relu).plans(16).build()?;

    for (batch, height, width) in [(1, 56, 56), (4, 56, 56), (1, 97, 131), (1, 56, 56)] {
        let shape = Shape4::new(batch, 32, height, width);
        let input = vec![1.0; shape.len(Layout::Nchw)?];
        let start = Instant::now();
        let plan = conv.plan(shape, Threads::Seq)?;
        let planned = start.elapsed();
        let output = conv.run(TensorRef::packed(&input, shape, Layout::Nchw)?, Threads::Seq)?;
        assert_eq!(output.len(), batch * 64 * height * width);
        println!("{shape}: planned in {planned:?}, runs {}", plan.algorithm());
    }
    let (forms, bytes) = (conv.filter().packed_forms(), conv.filter().packed_bytes());
    println!("{} plans share {forms} packed form(s) of {bytes} bytes", conv.planned());

    // A later process can skip packing: write the packed forms, and read them into a filter.
    let mut file = Vec::new();
    conv.filter().write_packed(&mut file).expect("a Vec takes any bytes");
    let again = Filter::from_packed(&mut &file[..]).expect("the bytes are those of this machine");
    assert_eq!(again.packed_bytes(), bytes);
    Ok(())
}
