/*
 * Included into musl's ldso/dynlink.c, before __dls3: thread-local variables of the loader itself. musl has none; the two of libstdc++'s
 * call_once, which Bun asks for by name, live in the same file as musl here. As load_library does it for any other library.
 */
static void place_own_tls(void)
{
	size_t i = 0;
	while (i < ldso.phnum && ldso.phdr[i].p_type != PT_TLS) i++;
	if (i == ldso.phnum) return;
	ldso.tls.image = laddr(&ldso, ldso.phdr[i].p_vaddr);
	ldso.tls.len = ldso.phdr[i].p_filesz;
	ldso.tls.size = ldso.phdr[i].p_memsz;
	ldso.tls.align = ldso.phdr[i].p_align;
	ldso.tls_id = ++tls_cnt;
	tls_align = MAXP2(tls_align, ldso.tls.align);
#ifdef TLS_ABOVE_TP
	ldso.tls.offset = tls_offset + ((ldso.tls.align - 1) & (-tls_offset + (uintptr_t)ldso.tls.image));
	tls_offset = ldso.tls.offset + ldso.tls.size;
#else
	tls_offset += ldso.tls.size + ldso.tls.align - 1;
	tls_offset -= (tls_offset + (uintptr_t)ldso.tls.image) & (ldso.tls.align - 1);
	ldso.tls.offset = tls_offset;
#endif
	if (tls_tail) tls_tail->next = &ldso.tls;
	else libc.tls_head = &ldso.tls;
	tls_tail = &ldso.tls;
}
