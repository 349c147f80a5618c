//! Any first bytes of a file are inspected without a panic and within the budget of reads. Known dimensions are
//! not zero, and no type but that of a photo has any.

#![no_main]

use libfuzzer_sys::fuzz_target;
use photoshare_server::inspect::{DetectedType, ReadBudget, read_dimensions};

fuzz_target!(|first: &[u8]| {
    let detected_type = DetectedType::detect(first);
    let budget = ReadBudget::default();
    let dimensions = read_dimensions(first, detected_type, &budget);
    assert!(budget.spent() < ReadBudget::MAX_READS || dimensions.is_none());
    if let Some((width, height)) = dimensions {
        assert!(width > 0 && height > 0 && detected_type.photo_type().is_some());
    }
});
