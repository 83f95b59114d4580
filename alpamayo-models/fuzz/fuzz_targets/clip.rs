//! Reading a clip returns, whatever its `clip.json` and its images hold; what it accepts is valid.
#![no_main]

use alpamayo_core::Clip;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    // The first byte says how much of the rest is the image.
    let (image, document) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(directory.path().join(name), bytes).expect("the temporary directory is writable");
    };
    write("clip.json", document);
    write("cam0_f0.png", image);
    if let Ok(clip) = Clip::read(directory.path()) {
        clip.validate().expect("a clip that was read is valid");
    }
});
