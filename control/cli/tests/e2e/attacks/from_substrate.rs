use crate::fixture::Case;
pub(crate) const CASES: &[Case] = &[];
