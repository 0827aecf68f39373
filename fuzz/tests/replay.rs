//! Every committed input once more.

use std::fs;
use std::path::{Path, PathBuf};

/// No input is longer: long ones are slow to fuzz, and big in a repository.
const INPUT_BYTES_MAX: u64 = 64 << 10;
/// No corpus has more: `cargo fuzz cmin` keeps those that matter.
const INPUTS_MAX: usize = 500;

fn inputs(target: &str) -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

fn replay(target: &str) {
    let inputs = inputs(target);
    assert!((1..=INPUTS_MAX).contains(&inputs.len()), "{} inputs for {target}", inputs.len());
    for path in inputs {
        let data = fs::read(&path).unwrap();
        assert!(data.len() as u64 <= INPUT_BYTES_MAX, "{} is too long", path.display());
        // The name of the input is what one wants to know of a failure.
        let result = std::panic::catch_unwind(|| outlast_fuzz::run(target, &data));
        assert!(result.is_ok(), "{} breaks {target}", path.display());
    }
}

/// One test for each target, and one that there are no others.
macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_has_a_corpus_and_every_corpus_a_target() {
            let here: Vec<_> = outlast_fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(here, [$(stringify!($name)),*]);
            let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
            let mut found: Vec<_> =
                fs::read_dir(corpora).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            found.sort();
            assert_eq!(found, here);
        }
    };
}

targets!(
    address,
    banner,
    cephx_client,
    cephx_none,
    cephx_server,
    connection_client,
    connection_frames,
    connection_server,
    control,
    decide,
    decompress,
    dlm_frame,
    dlm_machine,
    dlm_session,
    endpoint,
    frames,
    header,
    key,
    keyring,
    net_address,
    path,
    round_trip,
    sealed,
    transfer,
);
