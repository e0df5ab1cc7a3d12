//! `include/convkernels.h` is what cbindgen makes of the source. `CONVKERNELS_WRITE_HEADER=1 cargo test -p
//! convkernels-c --test header` writes it.

use std::fs;
use std::path::Path;

#[test]
fn the_committed_header_is_the_generated_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut bytes = Vec::new();
    cbindgen::generate_with_config(root, config).unwrap().write(&mut bytes);
    let generated = String::from_utf8(bytes).unwrap();
    let path = root.join("include/convkernels.h");
    if std::env::var_os("CONVKERNELS_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let difference = generated.lines().zip(committed.lines()).find(|(new, old)| new != old);
    assert!(
        generated == committed,
        "include/convkernels.h differs from the source, first in {difference:?}: write it with \
         CONVKERNELS_WRITE_HEADER=1"
    );
}
