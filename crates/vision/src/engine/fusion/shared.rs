//! Operators that the plans of a model share.

use std::any::Any;
use std::sync::Arc;

use kernels::operator::Operator;

/// Operators made so far, of any type: a model loaded for several input shapes keeps its weights once.
#[derive(Default)]
pub struct SharedOperators(Vec<Arc<dyn Any + Send + Sync>>);

impl SharedOperators {
    /// Returns the equal operator made earlier, or else this one.
    pub fn share<O>(&mut self, operator: O) -> Arc<dyn Operator>
    where
        O: Operator + PartialEq + 'static,
    {
        let of_its_type =
            |known: &Arc<dyn Any + Send + Sync>| Arc::clone(known).downcast::<O>().ok();
        if let Some(known) = self.0.iter().filter_map(of_its_type).find(|known| **known == operator)
        {
            return known;
        }
        let operator = Arc::new(operator);
        self.0.push(operator.clone());
        operator
    }
}

#[cfg(test)]
impl SharedOperators {
    /// Returns the number of operators made.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
