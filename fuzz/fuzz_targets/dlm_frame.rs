#![no_main]
//! See `outlast_fuzz::TARGETS`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| outlast_fuzz::run("dlm_frame", data));
