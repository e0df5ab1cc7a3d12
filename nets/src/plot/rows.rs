//! Which layers stand in one row.

/// Layers that one row sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The layer, or the block and how many layers of it there are.
    pub name: String,
    /// The layers' places.
    pub layers: Vec<usize>,
}

/// More rows than this are too many to read.
const MOST_ROWS: usize = 40;

/// A row for each layer, or where these would be too many, for each block: layers one after the other whose names begin
/// alike, as those of a residual block or an inception module do.
pub fn blocks<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Block> {
    let names: Vec<&str> = names.collect();
    let alone = |(index, name): (usize, &&str)| Block { name: (*name).to_owned(), layers: vec![index] };
    if names.len() <= MOST_ROWS {
        return names.iter().enumerate().map(alone).collect();
    }
    let mut blocks: Vec<Block> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match blocks.last_mut() {
            Some(block) if block.name == key(name) => block.layers.push(index),
            _ => blocks.push(Block { name: key(name).to_owned(), layers: vec![index] }),
        }
    }
    for block in &mut blocks {
        block.name = match block.layers[..] {
            [only] => names[only].to_owned(),
            _ => format!("{} ({} layers)", block.name, block.layers.len()),
        };
    }
    blocks
}

/// What has to be said if rows sum layers.
pub fn blocks_note(blocks: &[Block]) -> &'static str {
    match blocks.iter().any(|block| block.layers.len() > 1) {
        true => " A row with a number of layers is the sum of them.",
        false => "",
    }
}

/// The name of a layer's block: up to a slash (GoogLeNet: `inception_3a/1x1`), or up to the second dot after a number
/// (PyTorch: `layer1.0.conv1`), else up to the first dot. A slash in front is PyTorch's exporter's, which writes the path
/// of modules: `/layer1/layer1.0/conv1/Conv`.
pub(super) fn key(name: &str) -> &str {
    let mut parts = name.trim_start_matches('/').split('/');
    let first = parts.next().unwrap_or(name);
    let is_inner = |part: &&str| part.strip_prefix(first).is_some_and(|rest| rest.starts_with('.'));
    let module = parts.next().filter(is_inner).unwrap_or(first);
    let mut dots = module.match_indices('.').map(|(place, _)| place);
    let Some(dot) = dots.next() else { return module };
    let second = dots.next().unwrap_or(module.len());
    let has_number = second > dot + 1 && module[dot + 1..second].bytes().all(|byte| byte.is_ascii_digit());
    &module[..if has_number { second } else { dot }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_name() {
        for (name, expected) in [
            ("conv1", "conv1"),
            ("conv1.relu", "conv1"),
            ("conv1/7x7_s2", "conv1"),
            ("inception_3a/5x5_reduce.relu", "inception_3a"),
            ("inception_3a.concat", "inception_3a"),
            ("layer1.0.conv1", "layer1.0"),
            ("layer3.22.add.relu", "layer3.22"),
            ("features.28", "features.28"),
            ("/layer1/layer1.0/conv1/Conv", "layer1.0"),
            ("/conv1/Conv", "conv1"),
            ("", ""),
            (".", ""),
        ] {
            assert_eq!(key(name), expected, "{name}");
        }
    }

    #[test]
    fn only_many_layers_are_summed() {
        let names = |count: usize| -> Vec<String> {
            (0..count).map(|index| format!("layer1.{}.conv{}", index / 3, index % 3)).collect()
        };
        let rows = |names: &[String]| blocks(names.iter().map(String::as_str));
        let few = rows(&names(MOST_ROWS));
        assert!(few.len() == MOST_ROWS && few[4].name == "layer1.1.conv1" && few[4].layers == [4]);
        let many = rows(&names(49));
        assert_eq!(
            (many.len(), many[1].name.as_str(), &many[1].layers[..]),
            (17, "layer1.1 (3 layers)", &[3, 4, 5][..])
        );
        assert_eq!(many[16].name, "layer1.16.conv0");
    }
}
