use kernels::*;
use std::time::Instant;
fn main() {
    let layers = [(1, 32, 6, 5, 0usize), (6, 14, 16, 5, 0), (16, 5, 120, 5, 0)];
    for (c, s, o, k, p) in layers {
        for layout in [Layout::Nchw, Layout::Nhwc, Layout::Nchw16c] {
            let input_layout = if c == 1 { Layout::Nchw } else { layout };
            let Ok(desc) = ConvDesc::builder(Shape4::new(64, c, s, s), o, Size2::square(k)).pad(Pad2::all(p)).layout(input_layout).output_layout(layout).build() else { println!("{layout}: no"); continue };
            let x = vec![0.5f32; desc.input().len(input_layout).unwrap()];
            let g = vec![0.25f32; desc.output().len(layout).unwrap()];
            let f = vec![0.1f32; desc.filter_len()];
            let mut fg = vec![0.0f32; f.len()];
            let mut bg = vec![0.0f32; o];
            let mut out = vec![0.0f32; g.len()];
            let mut gx = vec![0.0f32; x.len()];
            let time = |run: &mut dyn FnMut()| { let mut best = f64::MAX; for _ in 0..30 { let t = Instant::now(); run(); best = best.min(t.elapsed().as_secs_f64()); } best * 1e6 };
            let auto = PlanOptions::default();
            for a in [None].into_iter().chain(Algorithm::ALL.into_iter().map(Some)) {
                let o = a.map_or(auto, |a| auto.force(a));
                let name = a.map_or("auto".to_owned(), |a| a.to_string());
                if let Ok(plan) = BackwardWeights::new(&desc, &WeightsSpec::default().bias(), &o) {
                    let mut w = Workspace::for_req(plan.workspace_req()).unwrap();
                    let t = time(&mut || { let io = BackwardWeightsIo::new(TensorRef::packed(&x, desc.input(), input_layout).unwrap(), TensorRef::packed(&g, desc.output(), layout).unwrap(), &mut fg).bias(&mut bg); plan.run(io, &mut w, Threads::Seq).unwrap(); });
                    println!("{c}x{s}->{o} {layout} weights {name} ({}) {t:.0} us", plan.algorithm());
                }
                if let Ok(plan) = ConvPlan::new(&desc, Weights::filter(&f), &o) {
                    let mut w = Workspace::for_req(plan.workspace_req()).unwrap();
                    let t = time(&mut || { let io = ConvIo::new(TensorRef::packed(&x, desc.input(), input_layout).unwrap(), TensorMut::packed(&mut out, desc.output(), layout).unwrap()); plan.run(io, &mut w, Threads::Seq).unwrap(); });
                    println!("{c}x{s}->{o} {layout} forward {name} ({}) {t:.0} us", plan.algorithm());
                }
                if let (true, Ok(plan)) = (c > 1, BackwardData::new(&desc, &f, DataSpec::default(), &o)) {
                    let mut w = Workspace::for_req(plan.workspace_req()).unwrap();
                    let t = time(&mut || { let io = BackwardDataIo::new(TensorRef::packed(&g, desc.output(), layout).unwrap(), TensorMut::packed(&mut gx, desc.input(), input_layout).unwrap()); plan.run(io, &mut w, Threads::Seq).unwrap(); });
                    let m: Vec<String> = plan.phases().map(|(_, p)| p.algorithm().to_string()).collect();
                    println!("{c}x{s}->{o} {layout} data {name} ({}) {t:.0} us", m.join("/"));
                }
            }
            let ops = Ops::new(None).unwrap();
            let pool = PoolDesc::builder(desc.output(), Size2::square(2), PoolKind::Average { count_include_pad: true }).stride(Size2::square(2)).layout(layout).build();
            if let Ok(pool) = pool {
                let mut y = vec![0.0f32; pool.output().len(layout).unwrap()];
                let t = time(&mut || ops.pool(&pool, TensorRef::packed(&g, desc.output(), layout).unwrap(), TensorMut::packed(&mut y, pool.output(), layout).unwrap(), Threads::Seq).unwrap());
                let t2 = time(&mut || ops.pool_gradient(&pool, None, TensorRef::packed(&y, pool.output(), layout).unwrap(), TensorMut::packed(&mut out, desc.output(), layout).unwrap(), Threads::Seq).unwrap());
                println!("{c}x{s}->{o} {layout} pool {t:.0} us gradient {t2:.0} us");
            }
            let t = time(&mut || ops.activate(Activation::Tanh, None, TensorMut::packed(&mut out, desc.output(), layout).unwrap(), Threads::Seq).unwrap());
            let t2 = time(&mut || ops.activate_gradient_in_place(Activation::Tanh, TensorRef::packed(&g, desc.output(), layout).unwrap(), TensorMut::packed(&mut out, desc.output(), layout).unwrap(), Threads::Seq).unwrap());
            println!("{c}x{s}->{o} {layout} tanh {t:.0} us gradient {t2:.0} us");
        }
    }
}
