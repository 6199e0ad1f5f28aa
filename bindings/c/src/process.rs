//! [`Process`]: whether this is still the process that made the context.

/// Tells a forked process from the one that was forked.
///
/// On Linux this reads a page of memory that the system empties in a forked process, because every call
/// looks here, and asking for the number of the process would take longer than all the rest of it.
#[derive(Debug)]
pub(crate) struct Process {
    number: u32,
    #[cfg(target_os = "linux")]
    page: Option<page::Page>,
}

impl Process {
    pub(crate) fn this() -> Self {
        Process {
            number: std::process::id(),
            #[cfg(target_os = "linux")]
            page: page::Page::new(),
        }
    }

    /// Returns whether this process was forked from the one that made this.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(page) = &self.page {
            return page.is_empty();
        }
        self.number != std::process::id()
    }
}

#[cfg(target_os = "linux")]
mod page {
    use std::{ffi::c_void, ptr};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    /// The system rounds it up to a whole page.
    const LEN: usize = 8;

    #[derive(Debug)]
    pub(super) struct Page(*mut c_void);

    // SAFETY: the page is written before anybody else knows of it, and only read from then on.
    unsafe impl Send for Page {}
    // SAFETY: as above.
    unsafe impl Sync for Page {}

    impl Page {
        /// Returns `None` where the system cannot do that: before Linux 4.14, and below some debuggers.
        pub(super) fn new() -> Option<Self> {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: the system chooses the place, so this maps over nothing that is in use.
            let page = unsafe {
                mmap_anonymous(ptr::null_mut(), LEN, protection, MapFlags::PRIVATE).ok()?
            };
            let page = Page(page);
            // SAFETY: the page was just mapped, and nobody else has it.
            unsafe {
                madvise(page.0, LEN, Advice::LinuxWipeOnFork).ok()?;
                page.0.cast::<u64>().write(1);
            }
            Some(page)
        }

        #[inline]
        pub(super) fn is_empty(&self) -> bool {
            // SAFETY: the page is mapped until this is dropped. Volatile, because the system changes it.
            unsafe { self.0.cast::<u64>().read_volatile() == 0 }
        }
    }

    impl Drop for Page {
        fn drop(&mut self) {
            // SAFETY: it was mapped with this length, and nobody reads it any more.
            let _ = unsafe { munmap(self.0, LEN) };
        }
    }
}
