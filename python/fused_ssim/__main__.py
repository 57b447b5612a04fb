"""`python -m fused_ssim` is the `fused-ssim` command."""

from fused_ssim.cli import main

if __name__ == "__main__":
    main()
