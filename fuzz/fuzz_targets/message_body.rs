//! Whatever stands in a queue message: it parses without a panic, and what was read of it keeps its
//! meaning when it is written down again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use photoshare_server::{
    events::{self, Body, ObjectEvent},
    feed::{KeyPrefix, ObjectKey},
};

fuzz_target!(|body: &str| {
    if let Ok(Body::Records(records)) = events::parse(body) {
        records.into_iter().flatten().for_each(|event| keeps_its_meaning(&event));
    }
});

fn keeps_its_meaning(event: &ObjectEvent) {
    assert!(!event.name.is_empty() && !event.bucket.is_empty());
    assert_eq!(events::decode_key(&events::encode_key(&event.key)).as_ref(), Ok(&event.key));
    for prefix in ["", "photos/"] {
        let prefix = KeyPrefix::parse(prefix).expect("a prefix");
        if let Ok(key) = ObjectKey::parse(&prefix, &event.key) {
            assert_eq!(key.as_str(), event.key);
            assert_eq!(ObjectKey::build(&prefix, key.feed(), key.name()).as_ref(), Ok(&key));
        }
    }
}
