"""What is at addresses: files (`fetch`), folders (`folder`), copies of run folders (`mirror`)."""
