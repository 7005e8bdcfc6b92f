"""The subcommands of ``morpheus-core``, one module each: parse and delegate."""
