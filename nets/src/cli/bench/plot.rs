//! `--plot`: the time of every layer, and how far it is from the roofs; a pair of charts for each measurement.

use super::measure::{Layer, Measured};
use crate::cli::roofline;
use crate::cli::roofs::Roofs;
use nets::NetError;
use nets::plot::{
    Bar, BarChart, Block, Chart, Column, Mark, Part, PlaneChart, Point, Row, blocks, blocks_note, page, short,
};

/// What the roof is measured with.
const OWN_ROOF: &str = "own 3x3 convolution in cache";

/// The picture as text. Memory is measured for it.
pub(super) fn svg(name: &str, results: &[Measured]) -> Result<String, NetError> {
    let mut charts = Vec::new();
    for run in results {
        let memory = Roofs::measure(run.isa, run.threads)?;
        let bf16_gflops = memory.bf16_gflops.filter(|_| run.has_bf16());
        let roofs = Roofs { gflops: run.roof_gflops, arithmetic: OWN_ROOF, bf16_gflops, ..memory };
        charts.extend([Chart::Bars(bars(run)), Chart::Plane(roofline(run, &roofs))]);
    }
    Ok(page(&format!("{name}: the time of each layer"), &[], &charts))
}

fn title(run: &Measured) -> String {
    format!("batch {}, {} thread(s), {}", run.batch, run.threads, run.isa)
}

fn bars(run: &Measured) -> BarChart {
    let layers: Vec<&Layer> = run.layers.iter().filter(|layer| layer.step.layout.is_some()).collect();
    let rows = blocks(layers.iter().map(|layer| layer.step.name.as_str()));
    let note = format!(
        "{} ms a pass (median), {:.1} % of it in other layers than convolutions and matrix products.{}",
        short(run.median()),
        run.outside(),
        blocks_note(&rows)
    );
    let mark = Mark { at: run.roof_gflops, name: format!("{OWN_ROOF}, {:.0} GFLOP/s", run.roof_gflops) };
    BarChart {
        title: format!("Time, {}", title(run)),
        notes: vec![note],
        series: ["convolutions and matrix products", "other layers"].map(str::to_owned).to_vec(),
        columns: vec![
            Column { title: "milliseconds".to_owned(), mark: None },
            Column { title: "GFLOP/s (of the definition)".to_owned(), mark: Some(mark) },
        ],
        rows: rows.into_iter().map(|block| row(run, &layers, block)).collect(),
    }
}

fn row(run: &Measured, layers: &[&Layer], block: Block) -> Row {
    let layers = || block.layers.iter().map(|&layer| layers[layer]);
    let ms = |has_macs: bool| {
        layers().filter(|layer| (layer.step.macs > 0) == has_macs).map(|layer| layer.ms).sum()
    };
    let (products, others): (f64, f64) = (ms(true), ms(false));
    let methods: Vec<String> =
        layers().filter_map(|layer| layer.step.method()).map(|method| method.to_string()).collect();
    let time = Bar {
        parts: vec![Part { series: 0, value: products }, Part { series: 1, value: others }],
        figure: format!(
            "{} ({:.1} %)",
            short(products + others),
            100.0 * (products + others) / run.layers_ms()
        ),
        note: methods.join(", "),
    };
    let flops: f64 = layers().map(|layer| 2.0 * layer.step.macs as f64 * run.batch as f64).sum();
    let speed = if products > 0.0 { vec![Bar::plain(0, flops / products / 1e6)] } else { Vec::new() };
    Row { name: block.name, cells: vec![vec![time], speed] }
}

fn roofline(run: &Measured, roofs: &Roofs) -> PlaneChart {
    let mut layers: Vec<(&Layer, f64)> =
        run.layers.iter().filter_map(|layer| Some((layer, run.gflops(layer)?))).collect();
    // Those that take longest are named first.
    layers.sort_by(|(a, _), (b, _)| b.ms.total_cmp(&a.ms));
    let point = |(layer, gflops): (&Layer, f64)| {
        let step = &layer.step;
        let intensity = 2.0 * step.macs as f64 * run.batch as f64 / step.bytes.max(1) as f64;
        let method = step.method().map_or(String::new(), |method| method.to_string());
        let note = format!("{} GFLOP/s, {} ms, {method}", short(gflops), short(layer.ms));
        Point { name: step.name.clone(), note, series: 0, at: (intensity, gflops) }
    };
    let notes = vec![
        "The roofs were measured in this run: arithmetic as the library's own 3x3 convolution in cache, memory as \
         reads. Winograd and Fourier transforms save operations of the definition and can pass the flat roof; data \
         still in cache can pass the slope."
            .to_owned(),
    ];
    let points = layers.into_iter().map(point).collect();
    let chart = roofline::chart(format!("Roofline, {}", title(run)), notes, roofs, points);
    // Layers without products have no GFLOP/s.
    PlaneChart { series: Vec::new(), ..chart }
}
