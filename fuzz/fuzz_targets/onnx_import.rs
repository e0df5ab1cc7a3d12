//! Imports arbitrary bytes as an ONNX model. The result is an error or a network whose parameters can be
//! counted. The import must not panic or use much memory.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use nets::import::onnx::{ImportOptions, load_bytes};

/// Maximum number of weights for which the weights are also read.
const SMALL: u64 = 1 << 16;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let strict = load_bytes(bytes, "model", &ImportOptions::default().strict(true));
    let Ok(model) = load_bytes(bytes, "model", &ImportOptions::default()) else {
        assert!(strict.is_err(), "strict takes what is refused otherwise");
        return Corpus::Keep;
    };
    if let Ok(count) = model.count(1) {
        let sum: u64 = count.layers.iter().map(|layer| layer.params).sum();
        assert_eq!(sum, count.params);
        if count.params + count.untrained < SMALL {
            let _ = model.weights.read(&model.graph);
        }
    }
    Corpus::Keep
});
