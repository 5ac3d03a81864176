plugin "terraform" {
  enabled = true
  preset  = "all"
}

# Each example fits in one file.
rule "terraform_standard_module_structure" {
  enabled = false
}
