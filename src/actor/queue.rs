//! First in, first out, with the first item in place: where there is one at a time, as most objects
//! have it, nothing but the owner's own memory is touched.
//!
//! Invariants:
//!   * There is a first item wherever there are more.

use std::collections::VecDeque;

/// Items in the order in which they came.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Queue<T> {
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { first: None, rest: VecDeque::new() }
    }
}

impl<T> Queue<T> {
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub fn push_back(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.rest.push_back(item),
        }
    }

    /// The first item, where it is known that there is no other.
    pub fn take_only(&mut self) -> Option<T> {
        self.first.take()
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let first = self.first.take();
        if !self.rest.is_empty() {
            self.first = self.rest.pop_front();
        }
        first
    }

    pub fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    pub fn back(&self) -> Option<&T> {
        self.rest.back().or(self.first.as_ref())
    }

    pub fn get(&self, index: usize) -> Option<&T> {
        match index.checked_sub(1) {
            None => self.first.as_ref(),
            Some(index) => self.rest.get(index),
        }
    }

    /// The items of the front of which `is_front` is true; behind the first of which it is not
    /// there is none.
    pub fn fronts(&self, is_front: impl Fn(&T) -> bool) -> impl DoubleEndedIterator<Item = &T> {
        let count = self.rest.partition_point(&is_front);
        self.first.iter().filter(move |first| is_front(first)).chain(self.rest.range(..count))
    }
}

impl<T> IntoIterator for Queue<T> {
    type Item = T;
    type IntoIter =
        std::iter::Chain<std::option::IntoIter<T>, std::collections::vec_deque::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_whatever_is_taken_out_between() {
        let mut queue = Queue::default();
        assert!(queue.is_empty() && queue.back().is_none());
        (0..6).for_each(|item| queue.push_back(item));
        assert_eq!((queue.len(), queue.front(), queue.back()), (6, Some(&0), Some(&5)));
        assert_eq!(queue.pop_front(), Some(0));
        assert_eq!((queue.get(0), queue.get(2), queue.get(5)), (Some(&1), Some(&3), None));
        let fronts = |below| queue.fronts(move |item| *item < below).copied().collect::<Vec<_>>();
        assert_eq!((fronts(0), fronts(2), fronts(5)), (vec![], vec![1], vec![1, 2, 3, 4]));
        assert_eq!(queue.fronts(|item| *item < 5).next_back(), Some(&4));
        assert_eq!((queue.pop_front(), queue.pop_front()), (Some(1), Some(2)));
        assert_eq!(queue.into_iter().collect::<Vec<_>>(), [3, 4, 5]);
    }
}
