//! Compares every network of the zoo with its published counts.

use nets::{Shape, count, zoo};

/// One network per line: `name,variant,input,params,macs,source_or_note`. The figures come from papers, from
/// models that their authors published, and from torchvision's metadata, as the last column says.
const PUBLISHED: &str = include_str!("published.csv");

struct Published {
    name: &'static str,
    input: &'static str,
    params: u64,
    macs: u64,
}

fn published() -> Vec<Published> {
    let rows = PUBLISHED.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.splitn(6, ',').collect();
        let number = |field: usize| fields[field].parse().unwrap();
        Published { name: fields[0], input: fields[2], params: number(3), macs: number(4) }
    });
    rows.collect()
}

#[test]
fn every_published_count_is_exact() {
    let rows = published();
    assert_eq!(rows.len(), 33);
    let mut wrong = Vec::new();
    for row in rows {
        let entry = zoo::find(row.name).unwrap();
        assert_eq!(entry.input.to_string(), row.input, "{}", row.name);
        let total = count(&entry.graph().unwrap()).unwrap();
        if (total.params, total.macs) != (row.params, row.macs) {
            wrong.push(format!(
                "{}: {:?} not {:?}",
                row.name,
                (total.params, total.macs),
                (row.params, row.macs)
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn other_inputs() {
    let graph = |name: &str, input| zoo::find(name).unwrap().graph_for(input);
    // Adaptive pooling keeps the number of parameters on larger inputs; a flattened map does not.
    let large = Shape::map(3, 448, 320);
    for name in ["resnet50", "vgg16", "googlenet-torchvision-aux"] {
        let params = |input| count(&graph(name, input).unwrap()).unwrap().params;
        assert_eq!(params(large), params(Shape::map(3, 224, 224)), "{name}");
    }
    let error = graph("alexnet", Shape::map(3, 10, 10)).unwrap_err().to_string();
    assert!(error.starts_with("layer `conv1`: the output is empty"), "{error}");
    let error = graph("vgg16", Shape::vector(10)).unwrap_err().to_string();
    assert_eq!(error, "layer `features.0`: expected feature maps as input, got 10");
}

#[test]
fn tensors_are_named_as_in_torchvision() {
    let has = |name: &str, tensor: &str, dims: &[usize]| {
        let graph = zoo::find(name).unwrap().graph().unwrap();
        assert!(graph.params().any(|(name, param)| name == tensor && param.dims == dims), "{name}: {tensor}");
    };
    has("vgg16", "features.28.weight", &[512, 512, 3, 3]);
    has("alexnet-torchvision", "classifier.6.bias", &[1000]);
    has("googlenet-torchvision", "inception3a.branch1.conv.weight", &[64, 192, 1, 1]);
    has("googlenet-torchvision", "inception5b.branch4.1.bn.running_var", &[128]);
    has("googlenet-torchvision-aux", "aux2.conv.conv.weight", &[128, 528, 1, 1]);
    has("resnet50", "layer4.0.downsample.0.weight", &[2048, 1024, 1, 1]);
    has("resnet18", "layer4.0.downsample.1.running_mean", &[512]);
    has("resnext50-32x4d", "layer1.0.conv2.weight", &[128, 4, 3, 3]);
    has("resnext50-32x4d", "layer4.2.conv2.weight", &[1024, 32, 3, 3]);
    has("densenet121", "features.denseblock3.denselayer24.conv1.weight", &[128, 992, 1, 1]);
    has("densenet121", "features.transition1.norm.running_var", &[256]);
    has("mobilenet-v2", "features.1.conv.1.weight", &[16, 32, 1, 1]);
    has("mobilenet-v2", "features.17.conv.1.0.weight", &[960, 1, 3, 3]);
    has("efficientnet-b0", "features.1.0.block.1.fc1.weight", &[8, 32, 1, 1]);
    has("efficientnet-b0", "features.7.0.block.2.fc2.bias", &[1152]);
    has("efficientnet-b0", "features.8.1.weight", &[1280]);
}
