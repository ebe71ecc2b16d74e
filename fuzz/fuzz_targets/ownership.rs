#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shardgram_fuzz::ownership(data));
