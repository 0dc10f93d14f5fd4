//! The EAL's arguments, some of which have had other names since 20.11.

use crate::sys;
use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_int};
use std::ptr;

/// DPDK's function, with the arguments that capsule gives in 22.11's words.
///
/// # Safety
/// As DPDK's: `argv` has `argc` pointers to C strings, and nobody else initialises or uses the EAL meanwhile.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let mut arguments = Vec::new();
    for index in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: the caller's promise.
        arguments.push(unsafe { CStr::from_ptr(*argv.add(index)) }.to_owned());
    }
    let arguments = in_words_of_22_11(arguments);
    let count = c_int::try_from(arguments.len()).unwrap_or(c_int::MAX);
    // The EAL keeps pointers into them, and is initialised once in a process.
    let mut pointers: Vec<_> = arguments.into_iter().map(CString::into_raw).collect();
    pointers.push(ptr::null_mut());
    // SAFETY: an argument vector as main() gets it, which lives for ever.
    unsafe { sys::rte_eal_init(count, pointers.leak().as_mut_ptr()) }
}

/// The same arguments under their new names. A vdev that is a PCI address in truth is made one: capsule tells them apart
/// by decimal digits only.
fn in_words_of_22_11(arguments: Vec<CString>) -> Vec<CString> {
    let mut words = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let word = match argument.to_bytes() {
            b"--master-lcore" => c"--main-lcore".to_owned(),
            b"--pci-whitelist" => c"--allow".to_owned(),
            b"--vdev" if arguments.peek().is_some_and(|device| is_pci(device.to_bytes())) => {
                c"--allow".to_owned()
            }
            _ => argument,
        };
        words.push(word);
    }
    words
}

/// Whether a device's name begins with a PCI address, like `0000:af:00.1`, and has nothing but arguments after it.
fn is_pci(device: &[u8]) -> bool {
    let device = device.split(|byte| *byte == b',').next().unwrap_or(device);
    let form = b"xxxx:xx:xx.x";
    device.len() == form.len()
        && device.iter().zip(form).all(|(byte, form)| match form {
            b'x' => byte.is_ascii_hexdigit(),
            separator => byte == separator,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(arguments: &[&str]) -> Vec<String> {
        let arguments = arguments.iter().map(|argument| CString::new(*argument).unwrap()).collect();
        in_words_of_22_11(arguments).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn arguments_of_19_11_get_their_new_names_and_others_stay() {
        let old = ["app", "--master-lcore", "0", "--pci-whitelist", "0000:01:00.0", "-l", "0", "--no-huge"];
        let new = ["app", "--main-lcore", "0", "--allow", "0000:01:00.0", "-l", "0", "--no-huge"];
        assert_eq!(translated(&old), new);
    }

    #[test]
    fn pci_address_with_hexadecimal_digits_is_no_vdev() {
        let old = ["--vdev", "0000:af:00.1,arg=1", "--vdev", "net_null0,no-rx=1", "--vdev", "0000:af:00.10"];
        let new = ["--allow", "0000:af:00.1,arg=1", "--vdev", "net_null0,no-rx=1", "--vdev", "0000:af:00.10"];
        assert_eq!(translated(&old), new);
    }
}
