"""Chapter 4: the address book as a service you could run."""
