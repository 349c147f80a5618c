//! Places for connections.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use super::ClientAddress;

/// Counts connections: all of them, and where that is limited those of each address.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    per_address: Option<NonZeroUsize>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Without those who have none.
    by_address: HashMap<ClientAddress, usize>,
}

/// One connection's place. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: ClientAddress,
}

/// Nobody else gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// There are too many.
    #[error("this process takes at most {0} connections")]
    Full(usize),
    /// There are too many of this address.
    #[error("one address may have at most {0} connections")]
    AddressFull(NonZeroUsize),
}

impl Places {
    pub(super) fn new(limit: usize, per_address: Option<NonZeroUsize>) -> Self {
        Self { limit, per_address, taken: Mutex::default() }
    }

    pub(super) fn take(self: &Arc<Self>, address: ClientAddress) -> Result<Place, NoPlace> {
        let mut taken = self.taken.lock().expect("no panic while held");
        if taken.all >= self.limit {
            return Err(NoPlace::Full(self.limit));
        }
        if let Some(limit) = self.per_address {
            let here = taken.by_address.entry(address).or_default();
            if *here >= limit.get() {
                return Err(NoPlace::AddressFull(limit));
            }
            *here += 1;
        }
        taken.all += 1;
        tell(taken.all);
        Ok(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().expect("no panic while held");
        taken.all -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        tell(taken.all);
    }
}

fn tell(count: usize) {
    metrics::gauge!("photoshare_connections").set(count as f64);
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn address(last: u8) -> ClientAddress {
        ClientAddress::of(Some([10, 0, 0, last].into()), &HeaderMap::new(), 0)
    }

    #[test]
    fn places_are_given_back() {
        let places = Arc::new(Places::new(3, NonZeroUsize::new(2)));
        let here = [(); 2].map(|()| places.take(address(1)).unwrap());
        let two = NonZeroUsize::new(2).unwrap();
        assert_eq!(places.take(address(1)).err(), Some(NoPlace::AddressFull(two)));
        let there = places.take(address(2)).unwrap();
        assert_eq!(places.take(address(3)).err(), Some(NoPlace::Full(3)));
        drop((here, there));
        assert!(places.taken.lock().unwrap().by_address.is_empty(), "nobody is remembered for nothing");
        assert!(places.take(address(1)).is_ok());
    }

    #[test]
    fn addresses_are_not_counted_where_they_are_not_limited() {
        let places = Arc::new(Places::new(3, None));
        let _taken = [(); 3].map(|()| places.take(address(1)).unwrap());
        assert_eq!(places.take(address(2)).err(), Some(NoPlace::Full(3)));
        assert!(places.taken.lock().unwrap().by_address.is_empty());
    }
}
