//! A stack whose first item lies in place: most turns are polled alone and outside sections, and
//! then nothing but the gate itself is touched.
//!
//! Invariants:
//!   * There is a first item wherever there are more.

use std::ops::{Index, IndexMut};

/// Items by their place, the last on top.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Stack<T> {
    more: Vec<T>,
    first: Option<T>,
}

impl<T> Default for Stack<T> {
    fn default() -> Self {
        Self { first: None, more: Vec::new() }
    }
}

impl<T> Stack<T> {
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub fn push(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.more.push(item),
        }
    }

    pub fn pop(&mut self) -> Option<T> {
        self.more.pop().or_else(|| self.first.take())
    }

    pub fn clear(&mut self) {
        self.first = None;
        self.more.clear();
    }

    pub fn last_mut(&mut self) -> Option<&mut T> {
        self.more.last_mut().or(self.first.as_mut())
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.first.iter().chain(&self.more)
    }

    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.first.iter_mut().chain(&mut self.more)
    }

    /// The place nearest to the top of which this is true.
    pub fn top_where(&self, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        let above = self.more.iter().rposition(&is_it).map(|place| place + 1);
        above.or_else(|| self.first.as_ref().is_some_and(is_it).then_some(0))
    }
}

impl<T> Index<usize> for Stack<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        match (place.checked_sub(1), &self.first) {
            (None, Some(first)) => first,
            (above, _) => &self.more[above.unwrap_or(usize::MAX)],
        }
    }
}

impl<T> IndexMut<usize> for Stack<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        match (place.checked_sub(1), &mut self.first) {
            (None, Some(first)) => first,
            (above, _) => &mut self.more[above.unwrap_or(usize::MAX)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_off_in_the_other_order_and_are_found_from_the_top() {
        let mut stack = Stack::default();
        assert!(stack.is_empty());
        for item in [1, 2, 1] {
            stack.push(item);
        }
        stack[1] = 3;
        stack[0] = 1;
        assert_eq!((stack.len(), stack[0], stack[1], stack[2]), (3, 1, 3, 1));
        assert_eq!(stack.top_where(|item| *item == 1), Some(2));
        assert_eq!(stack.top_where(|item| *item == 2), None);
        assert_eq!(stack.iter().copied().collect::<Vec<_>>(), [1, 3, 1]);
        assert_eq!((stack.pop(), stack.pop()), (Some(1), Some(3)));
        assert_eq!(stack.top_where(|item| *item == 1), Some(0));
        assert_eq!(stack.last_mut(), Some(&mut 1));
        assert_eq!((stack.pop(), stack.pop(), stack.len()), (Some(1), None, 0));
    }
}
