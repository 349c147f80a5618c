//! Any body of a queue message is parsed without a panic, and the parsed keys survive encoding and parsing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use photoshare_server::{
    events::{self, MessageBody, ObjectEvent},
    feed::{KeyPrefix, ObjectKey},
};

fuzz_target!(|body: &str| {
    if let Ok(MessageBody::Records(records)) = events::parse_body(body) {
        records.into_iter().flatten().for_each(|event| assert_round_trip(&event));
    }
});

fn assert_round_trip(event: &ObjectEvent) {
    assert!(!event.name.is_empty() && !event.bucket.is_empty());
    assert_eq!(events::decode_key(&events::encode_key(&event.key)).as_ref(), Ok(&event.key));
    for prefix in ["", "photos/"] {
        let prefix = KeyPrefix::parse(prefix).expect("a valid prefix");
        if let Ok(key) = ObjectKey::parse(&prefix, &event.key) {
            assert_eq!(key.as_str(), event.key);
            assert_eq!(ObjectKey::build(&prefix, key.feed(), key.name()).as_ref(), Ok(&key));
        }
    }
}
