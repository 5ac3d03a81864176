plugin "terraform" {
  enabled = true
  preset  = "all"
}

# Short examples stand in one file.
rule "terraform_standard_module_structure" {
  enabled = false
}
