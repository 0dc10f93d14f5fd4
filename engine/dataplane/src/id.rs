//! Checked identifiers: a value of one of these types is always legal.

use core::fmt;
use core::num::NonZeroU16;
use core::str::FromStr;

/// A value that an identifier cannot hold; names the field and its legal values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {legal}, not {given}")]
pub struct OutOfRange {
    /// What was being set, for example `vnet id`.
    pub field: &'static str,
    /// The legal values, as a person reads them.
    pub legal: &'static str,
    /// The value that was refused.
    pub given: u64,
}

/// A virtual network's id: 1 to 16 777 215 (24 bits; 0 is reserved).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VnetId(u32);

impl VnetId {
    /// The smallest legal id.
    pub const MIN: Self = Self(1);
    /// The largest legal id.
    pub const MAX: Self = Self(0x00ff_ffff);

    /// Checks and wraps `id`.
    ///
    /// # Errors
    /// [`OutOfRange`] for 0 and for values above 24 bits.
    pub const fn new(id: u32) -> Result<Self, OutOfRange> {
        if id == 0 || id > Self::MAX.0 {
            return Err(OutOfRange { field: "vnet id", legal: "1 to 16777215", given: id as u64 });
        }
        Ok(Self(id))
    }

    /// The id as a number, 1 to 16 777 215.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Which interface of its host: 0 to 63 (6 bits of the substrate address).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// The first slot.
    pub const ZERO: Self = Self(0);
    /// How many slots a host prefix has.
    pub const COUNT: usize = 64;

    /// Checks and wraps `slot`.
    ///
    /// # Errors
    /// [`OutOfRange`] above 63.
    pub const fn new(slot: u8) -> Result<Self, OutOfRange> {
        if slot > 63 {
            return Err(OutOfRange { field: "slot", legal: "0 to 63", given: slot as u64 });
        }
        Ok(Self(slot))
    }

    /// The slot as a number, 0 to 63.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A port of this engine: an index into the engine's port list, given by the control thread and never reused
/// while a worker may still hold the old port. Meaningless outside the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(NonZeroU16);

impl fmt::Debug for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortId({})", self.index())
    }
}

impl PortId {
    /// How many ports an engine can have, uplinks included.
    pub const LIMIT: usize = 4096;

    /// Checks and wraps `index`.
    ///
    /// # Errors
    /// [`OutOfRange`] at [`PortId::LIMIT`] and above.
    pub const fn new(index: u16) -> Result<Self, OutOfRange> {
        // One more is kept than the index, so that an `Option` takes no more room than an id.
        match NonZeroU16::new(index.wrapping_add(1)) {
            Some(more) if (index as usize) < Self::LIMIT => Ok(Self(more)),
            _ => Err(OutOfRange { field: "port index", legal: "0 to 4095", given: index as u64 }),
        }
    }

    /// The index, 0 to 4095.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

macro_rules! number_text {
    ($($name:ident($inner:ty) by $number:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.$number().fmt(f)
            }
        }

        impl TryFrom<$inner> for $name {
            type Error = OutOfRange;
            fn try_from(value: $inner) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }
    )*};
}
number_text!(VnetId(u32) by get, Slot(u8) by get, PortId(u16) by index);

impl FromStr for VnetId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let id: u32 = text.parse().map_err(|_| format!("vnet id must be 1 to 16777215, not {text:?}"))?;
        Self::new(id).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vnet_id_holds_24_bits_without_zero() {
        assert!(VnetId::new(0).is_err());
        assert_eq!(VnetId::new(1).unwrap(), VnetId::MIN);
        assert_eq!(VnetId::new(0xff_ffff).unwrap(), VnetId::MAX);
        assert_eq!(
            VnetId::new(0x100_0000).unwrap_err().to_string(),
            "vnet id must be 1 to 16777215, not 16777216"
        );
    }

    #[test]
    fn port_id_holds_its_index() {
        for index in [0, 1, 4095] {
            let port = PortId::new(index).unwrap();
            assert_eq!((port.index(), port.to_string()), (usize::from(index), index.to_string()));
        }
        for index in [4096, u16::MAX] {
            assert_eq!(PortId::new(index).unwrap_err().given, u64::from(index));
        }
    }

    #[test]
    fn slot_holds_6_bits() {
        assert_eq!(Slot::new(63).unwrap().get(), 63);
        assert!(Slot::new(64).is_err());
    }
}
